"""Who looked at the certify images: what is free, what is refused, and what no fault makes the ledger forget."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelled_runs import make_dataset
from labelled_runs import make_run as make_small_run
from laid_out import codes_of, lay_out
from samples import make_policy
from workbench.config.goals import Goals, TierGoal
from workbench.dataset.images import LEDGER_FILE, Dataset
from workbench.dataset.sources import load_dataset
from workbench.documents import to_document
from workbench.errors import InputError
from workbench.predictions import PredictionTable
from workbench.records import Draft, Taxonomy
from workbench.release.examination import certify_rows, look_digest
from workbench.release.gate import Release, release_draft
from workbench.release.ledger import Claim, Ledger, claim_look, read_budget, spent
from workbench.release.verification import verify_evidence
from worlds import ACCEPT, make_draft, make_run, make_world

World = tuple[Dataset, PredictionTable]

STRICTER = TierGoal(action="accept", metric="precision", at_least=0.92)


def goals(tier: TierGoal = ACCEPT, looks: int = 1) -> Goals:
    return Goals(below="pass", looks=looks, tiers=(tier,))


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose ledger is empty."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "images").mkdir()
    return make_world(tmp_path / "images", n=1200)


def look(world: World, tier: TierGoal = ACCEPT, looks: int = 1, **options: object) -> Release:
    """Draft and release, with the real ledger of the data set."""
    dataset, table = world
    return release_draft(make_draft(dataset, table, goals(tier, looks)), table, dataset, **options)  # type: ignore[arg-type]


def part_of(world: World, rows: np.ndarray) -> World:
    """The data set of these rows alone, and its run."""
    dataset, table = world
    part = replace(dataset, frame=dataset.frame[rows].reset_index(drop=True))
    return part, make_run(part, table.scores[rows])


def moved(world: World, folder: Path) -> World:
    """The same images in another folder."""
    dataset, table = world
    shutil.copytree(dataset.root, folder)
    return replace(dataset, root=folder), table


def numbers(release: Release) -> tuple[int, int, bool]:
    assert release.look is not None
    return release.look.number, release.look.planned, release.replayed


# What is free and what is refused


def test_the_same_look_is_free_and_says_the_same(world: World) -> None:
    first, again = look(world), look(world)
    assert [(1, 1, False), (1, 1, True)] == [numbers(first), numbers(again)]
    assert first.evidence is not None
    assert again.evidence is not None
    assert to_document(first.evidence) == to_document(again.evidence)
    assert first.policy is not None
    (known,) = Ledger.of(world[0]).looks()
    assert (first.policy.digest, first.evidence.look) == (known.verdict, known.digest)


def test_a_changed_goal_on_the_same_images_is_refused_and_judges_no_label(world: World) -> None:
    first, other = look(world), look(world, STRICTER)
    assert first.policy is not None
    assert (None, None) == (other.policy, other.evidence)
    (refusal,) = other.refusals
    assert refusal.startswith("ledger: ")
    assert str(Ledger.of(world[0]).looks()[0]) in refusal
    for told in ("test-approach v1", first.policy.digest[:12], "look 1 of 1", "`looks = m`"):
        assert told in refusal
    count = int((world[0].frame["split"] == "certify").sum())
    assert f"add {count} labelled certify images" in refusal
    attempt = next(known for known in Ledger.of(world[0]).looks() if not known.number)
    assert ("not allowed", 0) == (attempt.verdict, attempt.part)
    assert (1, 1, True) == numbers(look(world))


def test_planned_looks_are_counted_and_no_more_are_given(world: World) -> None:
    tiers = [TierGoal(action="accept", metric="precision", at_least=goal) for goal in (0.9, 0.91, 0.92)]
    releases = [look(world, tier, looks=2) for tier in tiers]
    assert [(1, 2, False), (2, 2, False), (0, 2, False)] == [numbers(release) for release in releases]
    assert [1, 2] == [release.evidence.look_number for release in releases[:2] if release.evidence]
    assert releases[2].refusals


def test_more_looks_planned_afterwards_do_not_help(world: World) -> None:
    look(world)
    assert look(world, STRICTER, looks=100).refusals


def test_looks_that_planned_differently_share_one_budget(world: World) -> None:
    tiers = [TierGoal(action="accept", metric="precision", at_least=0.9 + n / 100) for n in range(4)]
    found = [numbers(look(world, tier, looks)) for tier, looks in zip(tiers, (2, 4, 4, 4), strict=True)]
    assert [(1, 2, False), (3, 4, False), (4, 4, False), (0, 4, False)] == found


def test_a_draft_that_never_came_to_be_tested_spends_nothing(world: World) -> None:
    dataset, table = world
    uneven = replace(dataset, frame=dataset.frame.assign(weight=np.where(dataset.frame.index % 2, 1.0, 3.0)))
    draft = make_draft(dataset, table, goals())
    assert release_draft(draft, replace(table, info=replace(table.info, dataset=uneven.digest)), uneven).look is None
    assert () == Ledger.of(dataset).looks()


def test_a_refused_policy_has_spent_its_look(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path, n=200, skill=0.0)
    release = look((dataset, table), TierGoal(action="accept", metric="precision", at_least=0.99))
    assert (None, "refused") == (release.policy, Ledger.of(dataset).looks()[0].verdict)
    assert look((dataset, table)).refusals


def test_other_scores_under_the_same_draft_are_another_look(world: World) -> None:
    dataset, table = world
    draft = make_draft(dataset, table, goals())
    assert not release_draft(draft, table, dataset).refusals
    certify = (dataset.frame["split"] == "certify").to_numpy()[:, None]
    again = make_run(dataset, np.where(certify, table.scores[:, ::-1], table.scores))
    failed = table.frame.assign(outcome=np.where(certify[:, 0], "refused", "ok"))
    for other in (again, replace(table, frame=failed)):
        assert [0] == [numbers(release_draft(draft, other, dataset))[0]]
    assert numbers(release_draft(draft, table, dataset))[2]


def test_a_look_is_named_alike_in_any_order_of_the_rows(world: World) -> None:
    dataset, table = world
    draft, order = make_draft(dataset, table, goals()), np.random.default_rng(3).permutation(len(table))
    turned = replace(dataset, frame=dataset.frame.iloc[order].reset_index(drop=True))
    one = certify_rows(draft, table, dataset, 0)
    other = certify_rows(draft, make_run(turned, table.scores[order]), turned, 0)
    assert look_digest(draft, one, 0) == look_digest(draft, other, 0)


def test_a_family_is_spent_as_a_whole(tmp_path: Path) -> None:
    dataset, table = make_world(tmp_path, n=1600, groups=[str(row // 2) for row in range(1600)])
    split = np.repeat(np.random.default_rng(2).choice(["tune", "certify"], 800, p=[0.35, 0.65]), 2)
    labels = [None if row % 2 and row % 3 else labels for row, labels in enumerate(dataset.frame["labels"])]
    frame = dataset.frame.assign(split=split, labels=pd.Series(labels, dtype=object))
    twins = replace(dataset, frame=frame)
    assert not look((twins, make_run(twins, table.scores))).refusals
    known = Ledger.of(dataset).looks()[0].contents
    assert frozenset(twins.contents[split == "certify"]) == known
    apart = replace(dataset, frame=dataset.frame.assign(split=split, group=dataset.frame["image_id"]))
    assert look((apart, make_run(apart, table.scores)), STRICTER).refusals


def test_images_that_could_not_be_read_are_remembered(world: World) -> None:
    dataset, table = world
    lost = np.flatnonzero((dataset.frame["split"] == "certify").to_numpy())[:700]
    kept = {name: (dataset.root / name).read_bytes() for name in dataset.frame["path"].iloc[lost]}
    for name in kept:
        (dataset.root / name).unlink()
    blind = replace(dataset)
    first = look((blind, make_run(blind, table.scores)))
    assert first.look is not None
    assert len(first.look.contents) == (dataset.frame["split"] == "certify").sum()
    other = replace(dataset)
    assert look((other, make_run(other, table.scores)), STRICTER).refusals
    for name, content in kept.items():
        (dataset.root / name).write_bytes(content)
    assert look((replace(dataset), table), STRICTER).refusals


# Verification is a look


def test_a_policy_whose_look_is_not_on_file_is_verified_once_and_that_is_remembered(world: World) -> None:
    dataset, table = world
    draft = make_draft(dataset, table, goals())
    policy = release_draft(draft, table, dataset, ledger=Ledger.in_memory()).policy
    assert policy is not None
    assert [[], []] == [verify_evidence(policy, table, dataset) for _ in range(2)]
    (known,) = Ledger.of(dataset).looks()
    assert (policy.evidence.look, policy.digest, 1) == (known.digest, known.verdict, known.number)
    assert look(world, STRICTER).refusals


def test_a_policy_whose_look_is_not_allowed_here_shows_no_figure(world: World) -> None:
    dataset, table = world
    look(world)
    draft = make_draft(dataset, table, goals(STRICTER))
    policy = release_draft(draft, table, dataset, ledger=Ledger.in_memory()).policy
    assert policy is not None
    forged = replace(policy, evidence=replace(policy.evidence, summary=replace(policy.evidence.summary, correct=1)))
    for stated in (policy, forged):
        (difference,) = verify_evidence(stated, table, dataset)
        assert "/evidence/look" == difference.pointer
        assert "not on file here" in difference.found
        assert "certify images were counted before" in difference.found
    assert 1 == sum(known.number > 0 for known in Ledger.of(dataset).looks())


def test_of_another_look_than_the_policy_states_nothing_is_shown(world: World) -> None:
    policy = look(world).policy
    assert policy is not None
    changed = make_run(world[0], world[1].scores[:, ::-1])
    (difference,) = verify_evidence(policy, changed, world[0])
    assert ("/evidence/look", "another look: nothing of it is shown") == (difference.pointer, difference.found)
    forged = replace(policy, evidence=replace(policy.evidence, look="0" * 64))
    assert ["/evidence/look"] == [found.pointer for found in verify_evidence(forged, world[1], world[0])]
    assert 1 == len(Ledger.of(world[0]).looks())


def test_looks_keep_the_numbers_they_have_elsewhere(world: World) -> None:
    dataset, table = world
    elsewhere = Ledger.in_memory()
    drafts = [make_draft(dataset, table, goals(tier, 2)) for tier in (ACCEPT, STRICTER)]
    policies = [release_draft(draft, table, dataset, ledger=elsewhere).policy for draft in drafts]
    for policy in reversed(policies):
        assert policy is not None
        assert [] == verify_evidence(policy, table, dataset)
    assert [1, 2] == sorted(known.number for known in Ledger.of(dataset).looks())


# Where it is kept


def test_two_folders_with_the_same_images_are_one_set(world: World, tmp_path: Path) -> None:
    first = look(world)
    elsewhere = moved(world, tmp_path / "copy")
    (tmp_path / "copy" / LEDGER_FILE).unlink()
    assert (1, 1, True) == numbers(look(elsewhere))
    assert look(elsewhere, STRICTER).refusals
    assert first.look is not None
    assert {first.look.digest} < {known.digest for known in Ledger(tmp_path / "copy" / LEDGER_FILE).looks()}


def test_the_ledger_travels_with_the_images(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Path
) -> None:
    look(world)
    taken = moved(world, tmp_path / "copy")
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "another user"))
    assert look(taken, STRICTER).refusals
    assert (1, 1, True) == numbers(look(taken))
    assert store.is_dir()


def test_a_folder_that_was_made_anew_is_remembered(world: World) -> None:
    look(world)
    (world[0].root / LEDGER_FILE).unlink()
    assert look(world, STRICTER).refusals


def test_it_is_no_image_and_no_manifest_of_a_folder(tmp_path: Path) -> None:
    images = lay_out(tmp_path / "images", {"cat/1.png": "one", "dog/2.png": "two"})
    before = load_dataset(images)
    with Ledger.of(before).writing():
        (images / f"{LEDGER_FILE}-journal").touch()  # as a process that was killed leaves it
        during = load_dataset(images)
    assert (images / LEDGER_FILE).is_file()
    assert before.digest == during.digest
    assert codes_of(before.problems) == codes_of(during.problems)


def test_only_its_owner_reads_the_one_in_the_store(world: World, store: Path) -> None:
    look(world)
    assert [0o600, 0o700] == [path.stat().st_mode & 0o777 for path in (store / "ledger.sqlite", store)]
    assert ["ledger.sqlite"] == [path.name for path in store.iterdir()]


@contextmanager
def without_rights() -> Iterator[None]:
    """As a user who owns nothing (root may write everywhere)."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("recorded", [False, True])
def test_images_that_cannot_be_written_to_leave_it_to_the_store_and_say_so(
    recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "images").mkdir()
        world = make_world(folder / "images", n=600)
        if recorded:
            monkeypatch.setenv("WORKBENCH_STORE", name + "/before")
            look(world)
        (folder / "store").mkdir(mode=0o777)
        (folder / "store").chmod(0o777)
        monkeypatch.setenv("WORKBENCH_STORE", name + "/store")
        (folder / "images").chmod(0o555)
        before = sorted(path.name for path in (folder / "images").iterdir())
        with without_rights():
            release, other = look(world), look(world, STRICTER)
        assert (1, 1, recorded) == numbers(release)
        assert other.refusals
        (told,) = [check.text for check in release.checks if check.name == "ledger" and check.passed is None]
        assert re.search(rf"{LEDGER_FILE} cannot be written \(Permission denied\): .* in {name}/store", told)
        assert before == sorted(path.name for path in (folder / "images").iterdir())
        (folder / "images").chmod(0o755)


def test_a_store_that_cannot_be_written_stops_the_release(world: World, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("a file in the way")
    with pytest.raises(InputError, match=r"ledger\.sqlite"):
        look(world)


def test_a_store_that_is_a_link_to_nothing_stops_the_release(world: World, store: Path) -> None:
    store.mkdir()
    (store / "ledger.sqlite").symlink_to(store / "nowhere" / "x.sqlite")
    for ask in (lambda: look(world), lambda: read_budget(Ledger.of(world[0]), world[0])):
        with pytest.raises(InputError, match=r"store/ledger\.sqlite: .* a link to a file that is not there"):
            ask()


def test_images_whose_ledger_is_a_link_to_nothing_leave_it_to_the_store_and_say_so(world: World) -> None:
    (world[0].root / LEDGER_FILE).symlink_to(world[0].root / "nowhere" / "x.sqlite")
    release = look(world)
    assert (1, 1, False) == numbers(release)
    assert any("a link to a file that is not there" in check.text for check in release.checks)
    assert look(world, STRICTER).refusals


def test_a_ledger_without_a_file_gives_no_look(world: World) -> None:
    with pytest.raises(InputError, match="no ledger of looks can be written"):
        look(world, ledger=Ledger())


# Fresh images


def halves(folder: Path, first: float, n: int = 2400) -> tuple[World, World]:
    """A world, and the part of it that was there first."""
    whole = make_world(folder, n=n)
    rows = np.arange(n) < first * n
    return part_of(whole, rows), whole


def test_enough_fresh_images_stand_for_the_whole(tmp_path: Path) -> None:
    small, whole = halves(tmp_path, 0.4)
    before = look(small)
    after = look(whole, STRICTER)
    assert before.look is not None
    assert after.look is not None
    assert after.evidence is not None
    assert (1, 1, False) == numbers(after)
    certify = whole[0].frame["split"] == "certify"
    fresh = int((certify & (whole[0].frame.index >= 960)).sum())
    assert (fresh, int(certify.sum()) - fresh) == (after.evidence.summary.images, after.evidence.summary.set_aside)
    assert not before.look.contents & after.look.contents
    assert any("earlier looks counted" in check.text for check in after.checks if check.passed is None)
    assert (1, 1, True) == numbers(look(whole, STRICTER))
    assert look(whole, ACCEPT).refusals


def test_fewer_fresh_images_than_seen_ones_are_refused_with_how_many_are_lacking(tmp_path: Path) -> None:
    small, whole = halves(tmp_path, 0.6)
    look(small)
    certify = whole[0].frame["split"] == "certify"
    seen = int((certify & (whole[0].frame.index < 1440)).sum())
    fresh = int(certify.sum()) - seen
    (refusal,) = look(whole).refusals
    assert f"{seen} of {seen + fresh} certify images were counted before" in refusal
    assert f"add {seen - fresh} labelled certify images that no look has counted (there are {fresh}" in refusal


@pytest.mark.parametrize(("lacking", "allowed"), [(0, True), (1, False)])
def test_as_many_fresh_images_as_seen_ones_are_enough(tmp_path: Path, lacking: int, allowed: bool) -> None:
    whole = make_world(tmp_path, n=2000)
    certify = np.flatnonzero((whole[0].frame["split"] == "certify").to_numpy())
    half = len(certify) // 2
    first, rest = certify[:half], certify[half : 2 * half - lacking]
    others = np.flatnonzero((whole[0].frame["split"] != "certify").to_numpy())
    look(part_of(whole, np.isin(np.arange(2000), [*first, *others])))
    assert allowed == (not look(part_of(whole, np.isin(np.arange(2000), [*first, *rest, *others])), STRICTER).refusals)


def test_a_neighbour_of_an_image_that_was_counted_is_not_fresh(tmp_path: Path) -> None:
    dataset, _ = make_world(tmp_path, n=1600, groups=[str(row // 2) for row in range(1600)])
    splits = np.repeat(np.random.default_rng(2).choice(["tune", "certify"], 800, p=[0.35, 0.65]), 2)
    dataset = replace(dataset, frame=dataset.frame.assign(split=splits))
    table = make_run(dataset, np.random.default_rng(0).dirichlet([1, 1, 1], 1600))
    first, other = look((dataset, table)), look((dataset, table), seed=1)
    assert first.evidence is not None
    assert other.refusals


def test_a_look_at_fresh_images_verifies_with_the_ledger_and_says_so_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    small, whole = halves(images, 0.4)
    look(small)
    policy = look(whole, STRICTER).policy
    assert policy is not None
    assert [] == verify_evidence(policy, whole[1], whole[0])
    (difference,) = verify_evidence(policy, whole[1], whole[0], Ledger.in_memory())
    assert "/evidence/look" == difference.pointer
    assert "stands in the ledger of the place of the release" in difference.found
    forged = replace(policy, evidence=replace(policy.evidence, summary=replace(policy.evidence.summary, correct=1)))
    assert ["/evidence/summary/correct"] == [d.pointer for d in verify_evidence(forged, whole[1], whole[0])]


def test_a_look_number_that_the_ledger_knows_otherwise_does_not_verify(world: World) -> None:
    look(world, ACCEPT, 2)
    policy = look(world, STRICTER, 2).policy
    assert policy is not None
    assert [] == verify_evidence(policy, world[1], world[0])
    forged = replace(policy, evidence=replace(policy.evidence, look_number=1))
    assert ["/evidence/look_number"] == [d.pointer for d in verify_evidence(forged, world[1], world[0])]


def test_what_spent_most_is_set_aside_first(tmp_path: Path) -> None:
    small, whole = halves(tmp_path, 0.2)
    rest = part_of(whole, np.arange(2400) >= 480)
    look(rest, ACCEPT, looks=4)
    look(small, ACCEPT, looks=1)
    release = look(whole, STRICTER, looks=4)
    assert (2, 4, False) == numbers(release)
    assert release.look is not None
    assert frozenset(rest[0].contents[rest[0].frame["split"] == "certify"]) == release.look.contents


IMAGES = 12
TAXONOMY = Taxonomy(("shoe", "boot", "bag"))


def small_claim(ledger: Ledger, rows: Sequence[int], draft: Draft) -> Claim:
    """A look at the pictures with these numbers; nothing is tested."""
    dataset = make_dataset([("shoe",)] * len(rows), TAXONOMY, ids=[f"{row}.png" for row in rows], splits="certify")
    dataset.__dict__["contents"] = pd.Series([f"{row:064x}" for row in rows], dtype=object)
    table = make_small_run(dataset, np.full((len(rows), 3), 0.5))
    return claim_look(ledger, draft, certify_rows(draft, table, dataset, 0), dataset, 0)


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(st.sets(st.integers(0, IMAGES - 1), min_size=1), st.integers(1, 4), st.integers(0, 5)), max_size=12
    )
)
def test_no_image_is_ever_counted_beyond_its_budget(asked: list[tuple[set[int], int, int]]) -> None:
    ledger = Ledger.in_memory()
    draft = make_policy({}).evidence.draft
    for rows, planned, choice in asked:
        known = [look for look in ledger.looks() if look.number]
        wanted = replace(draft, looks=planned, confidence=0.9 + choice / 100)
        claim = small_claim(ledger, sorted(rows), wanted)
        again = small_claim(ledger, sorted(rows), wanted)
        assert bool(claim.refusal) == bool(again.refusal)
        assert again.replayed == (not claim.refusal)
        if claim.refusal or claim.replayed:
            assert len(known) == sum(look.number > 0 for look in ledger.looks())
            continue
        shared = [look for look in known if look.contents & claim.look.contents]
        assert spent(shared) + Fraction(1, planned) <= 1
        assert 1 <= claim.look.number <= planned
        assert claim.left_out <= len(claim.certify.rows)
        assert claim.look.contents == frozenset(claim.certify.contents) <= {f"{row:064x}" for row in rows}
    for row in range(IMAGES):
        counted = [look for look in ledger.looks() if f"{row:064x}" in look.contents]
        assert spent(counted) <= 1


# Faults


ASK = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path

import workbench.release.gate as gate
from worlds import ACCEPT, make_draft, make_world
from workbench.config.goals import Goals

dataset, table = make_world(Path(sys.argv[1]), n=600)
goals = Goals(below="pass", looks=int(sys.argv[2]), tiers=(ACCEPT.model_copy(update={"at_least": float(sys.argv[3])}),))
draft = make_draft(dataset, table, goals)
if "--kill" in sys.argv:
    gate.examine = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
print("ready", flush=True)
sys.stdin.readline()
release = gate.release_draft(draft, table, dataset)
print(release.look.number, release.replayed, flush=True)
"""


def start(folder: Path, looks: int, at_least: float, *more: str) -> subprocess.Popen[str]:
    """A process of its own that has drafted and waits for a line before it releases."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-c", ASK, str(folder), str(looks), str(at_least), *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )


def release_all(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Let them go at once; what each says."""
    for process in processes:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate()[0].strip() for process in processes]


@pytest.mark.parametrize(("looks", "numbers"), [(1, ["0", "0", "1"]), (2, ["0", "1", "2"])])
def test_processes_that_ask_at_once_get_no_number_twice_and_no_more_than_was_planned(
    tmp_path: Path, looks: int, numbers: list[str]
) -> None:
    (tmp_path / "images").mkdir()
    make_world(tmp_path / "images", n=600)
    told = release_all([start(tmp_path / "images", looks, goal) for goal in (0.9, 0.91, 0.92)])
    assert numbers == sorted(line.split()[0] for line in told)
    assert looks == sum(known.number > 0 for known in Ledger(tmp_path / "images" / LEDGER_FILE).looks())


def test_processes_with_one_look_get_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    make_world(tmp_path / "images", n=600)
    told = release_all([start(tmp_path / "images", 1, 0.9) for _ in range(3)])
    assert ["1 False", "1 True", "1 True"] == sorted(told)


def test_a_process_that_is_killed_before_it_judged_has_spent_its_look(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    world = make_world(tmp_path / "images", n=600)
    process = start(tmp_path / "images", 1, 0.9, "--kill")
    assert [""] == release_all([process])
    assert -signal.SIGKILL == process.returncode
    assert ["started"] == [known.verdict for known in Ledger.of(world[0]).looks()]
    assert look(world, STRICTER).refusals
    again = look(world, ACCEPT)
    assert (1, 1, True) == numbers(again)
    verdict = again.policy.digest if again.policy else "refused"
    assert [verdict] == [known.verdict for known in Ledger.of(world[0]).looks() if known.number]


DAMAGES = {
    "empty": b"",
    "no database": b"these are not the looks you are looking for\n" * 100,
    "header alone": b"SQLite format 3\0" + b"\xff" * 4080,
}


@pytest.mark.parametrize("place", ["store", "images"])
@pytest.mark.parametrize("content", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_named_and_left_alone(world: World, store: Path, place: str, content: bytes) -> None:
    look(world)
    file = store / "ledger.sqlite" if place == "store" else world[0].root / LEDGER_FILE
    file.write_bytes(content)
    for ask in (lambda: look(world), lambda: look(world, STRICTER), lambda: read_budget(Ledger.of(world[0]), world[0])):
        with pytest.raises(InputError, match=rf"{file}: the ledger of looks is damaged.*move it aside"):
            ask()
    assert content == file.read_bytes()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE looks SET planned = 100",
        "UPDATE looks SET number = 0",
        "UPDATE looks SET contents = zeroblob(64)",
        "UPDATE looks SET contents = 'text'",
        "UPDATE looks SET approach = CAST(x'fffe' AS TEXT)",
        "DROP TABLE looks",
    ],
)
def test_a_record_that_was_changed_is_damage(world: World, statement: str) -> None:
    look(world)
    file = world[0].root / LEDGER_FILE
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(statement)
    with pytest.raises(InputError, match=f"{LEDGER_FILE}: the ledger of looks is damaged"):
        look(world, STRICTER)


def test_a_page_that_was_overwritten_is_damage(world: World, store: Path) -> None:
    look(world)
    file = store / "ledger.sqlite"
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\x5a" * (len(content) - 4096))
    with pytest.raises(InputError, match=r"ledger\.sqlite: the ledger of looks is damaged"):
        look(world, STRICTER)


def test_a_ledger_of_a_newer_workbench_is_refused(world: World, store: Path) -> None:
    look(world)
    with closing(sqlite3.connect(store / "ledger.sqlite")) as connection, connection:
        connection.execute("PRAGMA user_version = 2")
    with pytest.raises(InputError, match="of a newer workbench"):
        look(world)


def test_a_full_disk_gives_no_free_look(tmp_path: Path) -> None:
    """The file may not grow: the look is not recorded, so no label is judged."""
    (tmp_path / "images").mkdir()
    make_world(tmp_path / "images", n=600)
    limited = ASK.replace(
        "release = ", "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (9_000, -1))\nrelease = "
    )
    limited = limited.replace("print(release", "raise SystemExit('judged')\nprint(release")
    paths = str(Path(__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", limited, str(tmp_path / "images"), "1", "0.9"],
        input="go\n",
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert 1 == done.returncode
    assert re.search(r"InputError: .*ledger.sqlite: .*", done.stderr)
    assert "judged" not in done.stderr


# What is left


def test_the_budget_counts_images_looks_and_attempts(tmp_path: Path) -> None:
    small, whole = halves(tmp_path, 0.6)
    dataset = whole[0]
    assert 1 == read_budget(Ledger.of(dataset), dataset).left
    look(small, ACCEPT, looks=4)
    look(small, STRICTER, looks=2)
    look(small, ACCEPT, looks=1)
    budget = read_budget(Ledger.of(dataset), dataset)
    certify = dataset.frame["split"] == "certify"
    assert (certify.sum(), (certify & (dataset.frame.index >= 1440)).sum()) == (budget.images, budget.fresh)
    assert Fraction(1, 4) == budget.left
    assert ["attempt", "look 1 of 4", "look 2 of 2"] == sorted(budget.frame()["look"])
