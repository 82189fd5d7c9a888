from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.config.project import find_project, read_goals, read_project
from workbench.errors import ConfigError
from workbench.records import Action

WHOLE = """
[dataset]
path = "images"
name = "shoes"
sensitive = true

[taxonomy]
categories = ["shoe", "boot"]
outside = "unknown"

[approaches.local-cnn.labels]
shoe = ["running shoe", "loafer"]

[goals]
confidence = 0.9
below = "pass"
looks = 2
tiers = [{ action = "accept", metric = "precision", at_least = 0.9 }]

[[goals.category.boot]]
action = "accept"
metric = "precision"
at_least = 0.95

[[goals.category.boot]]
action = "review"
metric = "recall"
at_least = 0.8

[goals.rejection]
signal = "top"
known_rejected = { at_most = 0.2 }
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "workbench.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_project_file_is_read_whole(tmp_path: Path) -> None:
    project = read_project(write(tmp_path, WHOLE))
    assert (tmp_path / "images", "shoes", True) == (project.dataset, project.name, project.sensitive)
    assert project.taxonomy is not None
    assert (("shoe", "boot"), "single-label", "unknown") == (
        project.taxonomy.categories,
        project.taxonomy.mode,
        project.taxonomy.outside,
    )
    assert {"local-cnn": {"shoe": ("running shoe", "loafer")}} == project.label_maps
    assert project.goals is not None
    assert ["review", "accept"] == [tier.action for tier in project.goals.tiers_of("boot")]
    assert ["accept"] == [tier.action for tier in project.goals.tiers_of("shoe")]
    assert ["any", "assigned"] == [
        project.goals.scope_of(tier, project.taxonomy) for tier in project.goals.tiers_of("boot")
    ]


def test_how_and_when_images_were_collected_and_a_model_was_made(tmp_path: Path) -> None:
    plain = read_project(write(tmp_path, WHOLE))
    assert ("random", "", {}) == (plain.sampling, plain.collected, plain.made)
    for day in ('"2026-01-31"', "2026-01-31"):
        text = WHOLE.replace("sensitive = true", f'sampling = "by score"\ncollected = {day}')
        text = text.replace(
            "[approaches.local-cnn.labels]", f"[approaches.local-cnn]\nmade = {day}\n[approaches.local-cnn.labels]"
        )
        project = read_project(write(tmp_path, text))
        assert ("by score", "2026-01-31") == (project.sampling, project.collected)
        assert {"local-cnn": "2026-01-31"} == project.made


def test_actions_have_a_default(tmp_path: Path) -> None:
    project = read_project(write(tmp_path, WHOLE))
    assert project.goals is not None
    assert Action("review", 1, "human") in project.goals.records()


def test_goals_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path, 'below = "pass"\ntiers = [{ action = "accept", metric = "precision", at_least = 0.9 }]\n')
    assert 0.95 == read_goals(path).confidence
    assert 2 == read_goals(write(tmp_path, WHOLE)).looks


@pytest.mark.parametrize("name", ["workbench.toml", "images", "manifest.csv"])
def test_a_project_is_found_from_its_folder_and_its_manifest(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, WHOLE)
    assert path == find_project(tmp_path / name)
    assert path == find_project(tmp_path)


def test_no_project_is_none(tmp_path: Path) -> None:
    assert find_project(tmp_path / "images" / "deep") is None


FAULTS = {
    "not TOML": ("[dataset", "", "not TOML"),
    "unknown field": ('name = "shoes"', 'nom = "shoes"', "dataset.nom"),
    "wrong type": ("sensitive = true", 'sensitive = "yes"', "dataset.sensitive"),
    "another sampling": ("sensitive = true", 'sampling = "best"', "dataset.sampling"),
    "no day": ("sensitive = true", 'collected = "31.1.2026"', "dataset.collected: a day like 2026-01-31"),
    "an hour": ("sensitive = true", "collected = 2026-01-31T10:00:00", "dataset.collected"),
    "no categories": ('categories = ["shoe", "boot"]', "categories = []", "taxonomy.categories"),
    "a category twice": ('["shoe", "boot"]', '["shoe", "shoe"]', "'shoe' stands twice"),
    "blanks": ('["shoe", "boot"]', '["shoe", " boot"]', "blanks around"),
    "unknown as category": ('["shoe", "boot"]', '["shoe", "boot", "unknown"]', "word for unknown"),
    "a goal of 1": ("at_least = 0.95", "at_least = 1.0", "goals.category.boot.0.at_least"),
    "a confidence of 95": ("confidence = 0.9", "confidence = 95", "goals.confidence"),
    "text for a number": ("confidence = 0.9", 'confidence = "0.9"', "goals.confidence"),
    "no below": ('below = "pass"\n', "", "goals.below"),
    "below that acts": ('below = "pass"', 'below = "accept"', "'accept' is automatic"),
    "unknown action": ('below = "pass"', 'below = "burn"', "no action is called 'burn'"),
    "unknown category": ("[[goals.category.boot]]", "[[goals.category.hat]]", "category.hat: not in the taxonomy"),
    "two tiers to one action": ('action = "review"', 'action = "accept"', "two tiers lead to the same action"),
    "wide scope of an automatic action": (
        "at_least = 0.95\n",
        'at_least = 0.95\nscope = "any"\n',
        "'accept' is automatic; in single-label mode",
    ),
    "tier that does nothing": ('action = "review"', 'action = "pass"', "does nothing"),
    "rejection without a limit": ("known_rejected = { at_most = 0.2 }", "", "say unknown_accepted or known_rejected"),
    "unknown outcome": ("looks = 2", 'on_outcome = { burnt = "review" }', "no such outcome"),
}


@pytest.mark.parametrize(("old", "new", "message"), FAULTS.values(), ids=FAULTS)
def test_a_fault_names_the_file_and_the_field(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in (WHOLE + "[dataset")
    text = WHOLE + "[dataset" if old == "[dataset" else WHOLE.replace(old, new)
    with pytest.raises(ConfigError) as caught:
        read_project(write(tmp_path, text))
    assert message in str(caught.value)
    assert "workbench.toml" in str(caught.value)


@pytest.mark.parametrize(
    "table",
    [
        '[approaches]\nkey = "s3same"',
        '[approaches.claude]\nlabels = "s3same"',
        '[approaches.claude]\nlabels = ["s3same"]',
        '[approaches.claude.labels]\ncat = "s3same"',
        '[approaches.claude]\nmade = "s3same"',
        '[prices]\nkey = "s3same"',
        '[prices]\nkey = ["s3same"]',
    ],
)
def test_what_may_be_a_secret_in_the_wrong_place_is_not_repeated(table: str, tmp_path: Path) -> None:
    path = tmp_path / "workbench.toml"
    path.write_text(table + "\n")
    with pytest.raises(ConfigError, match=r"workbench\.toml: (approaches|prices)\.") as caught:
        read_project(path)
    assert "s3same" not in str(caught.value)


@pytest.mark.parametrize("name", ["../else", "/else", "a\\b", "a\u0007b", ""])
def test_a_name_that_would_lead_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "workbench.toml"
    path.write_text(f"[dataset]\nname = {json.dumps(name)}\n")
    with pytest.raises(ConfigError, match=r"dataset\.name"):
        read_project(path)


@pytest.mark.parametrize("price", ["-1", "nan", "inf", '"0.1"', "true", "[1]"])
def test_what_is_no_price_is_refused(price: str, tmp_path: Path) -> None:
    path = tmp_path / "workbench.toml"
    path.write_text(f'[prices]\n"a/b" = {price}\n')
    with pytest.raises(ConfigError, match=r"prices\.a/b: "):
        read_project(path)


def test_a_price_is_a_number_from_0_up(tmp_path: Path) -> None:
    path = tmp_path / "workbench.toml"
    path.write_text('[prices]\n"a/b" = 1\n"c/d" = 0.5\n')
    assert {"a/b": 1.0, "c/d": 0.5} == read_project(path).prices


def test_every_fault_is_told_at_once(tmp_path: Path) -> None:
    text = WHOLE.replace("confidence = 0.9", "confidence = 95").replace("looks = 2", "looks = 0")
    with pytest.raises(ConfigError) as caught:
        read_project(write(tmp_path, text))
    assert 2 == len(str(caught.value).splitlines())


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "workbench.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"workbench\.toml"):
        read_project(path)


def test_multi_label_takes_top_only_and_scope_any(tmp_path: Path) -> None:
    multi = WHOLE.replace('outside = "unknown"', 'mode = "multi-label"')
    project = read_project(write(tmp_path, multi))
    assert project.goals is not None
    assert project.taxonomy is not None
    assert {"any"} == {project.goals.scope_of(tier, project.taxonomy) for tier in project.goals.tiers_of("boot")}
    with pytest.raises(ConfigError, match="multi-label knows top"):
        read_project(write(tmp_path, multi.replace('signal = "top"', 'signal = "margin"')))
