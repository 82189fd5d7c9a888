from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelled_runs import make_dataset, make_run
from samples import T, make_policy
from workbench.canonical import digest
from workbench.dataset.images import Dataset
from workbench.evaluation.intervals import clopper_pearson
from workbench.evaluation.labelled import join
from workbench.evaluation.production import bounds_by_share
from workbench.evaluation.summary import Evaluation, evaluate
from workbench.records import Calibration, Origin, Policy, Prevalence, Rejection, RejectionPromise, Step, Taxonomy
from workbench.report.page import write_report
from workbench.report.verdict import percent_down

HOSTILE = ("<img src=x onerror=alert(1)>", "_x", '=HYPERLINK("http://x")', "L" * 500, "مرحبا", "a\nb 😀 {{ 7*7 }}")
VOID = {"meta", "img", "br", "source"}


class Page(HTMLParser):
    """The elements of a page, checked for balance while they are read."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def things(folder: Path, categories: tuple[str, ...]) -> Dataset:
    names = [f"{row:02d}{end}" for row, end in enumerate(["<script>x.png", "'\"&.png", "😀.png", ".png"] * 15)]
    for row, name in enumerate(names):
        Image.new("RGB", (24, 18) if row % 2 else (160, 120), (row * 4, 90, 120)).save(folder / name)
    labels = [(categories[row % len(categories)],) if row % 7 else () for row in range(60)]
    splits = ["tune" if row % 3 else "certify" for row in range(60)]
    columns = {"<b>camera</b>": ["<i>old</i>", "new"] * 30, "source": ["" if row % 2 else "<web>" for row in range(60)]}
    taxonomy = Taxonomy(categories, unknown="<other>")
    return make_dataset(labels, taxonomy, root=folder, ids=names, splits=splits, columns=columns)


def runs(dataset: Dataset, policy: Policy) -> dict[str, Evaluation]:
    random = np.random.default_rng(2)
    scores = random.random((60, len(dataset.taxonomy.categories)))
    other = Origin("other", "other-1", digest("other"), "pixels", dataset.taxonomy.digest)
    tables = {
        "other <u>": make_run(dataset, scores[::-1], origin=other),
        "own": make_run(dataset, scores, origin=policy.origin),
    }
    return {name: evaluate(join(table, dataset)) for name, table in tables.items()}


def policy_for(dataset: Dataset) -> Policy:
    first, second, *_ = dataset.taxonomy.categories
    tiers = {first: [T("review", 0.2, "any", "recall"), T("accept", 0.6)], second: [T("accept", None)]}
    made = make_policy(tiers, categories=dataset.taxonomy.categories)
    taxonomy = dataset.taxonomy
    origin = replace(made.origin, taxonomy=taxonomy.digest)
    limits = (
        RejectionPromise("unknown_accepted", "<web>", 0.1, 0.99, "stress-test", 4, 1, 0.52, "4 images are too few"),
        RejectionPromise("known_rejected", "", 0.2, 0.99, "certified", 52, 1, 0.12, ""),
    )
    draft = replace(made.evidence.draft, origin=origin, taxonomy=taxonomy)
    evidence = replace(made.evidence, draft=draft, rejection=limits)
    return replace(made, origin=origin, taxonomy=taxonomy, evidence=evidence)


def at_a_mix(policy: Policy) -> Policy:
    """The same policy, tested at a mix of production under a frozen rule, its calibration described."""
    first, second, *others = policy.taxonomy.categories
    shares = {first: 0.4, second: 0.2, **dict.fromkeys(others, 0.05), policy.taxonomy.unknown: 0.2}
    kinds = dict.fromkeys([second, *others, policy.taxonomy.unknown], 400)
    recall, precise, refused = policy.evidence.promises
    step, wrong = Step(0.6, 103, 100, 1e-5, (1, 2, 0, 0, 0, 0)), Step(0.7, 60, 50, 0.5, (10, 0, 0, 0, 0, 0))
    promises = (
        recall,
        replace(precise, walk=(step,), certified=0.6, method="prevalence", kinds={first: 400, **kinds}),
        replace(
            refused,
            asked=0.5,
            walk=(wrong,),
            method="prevalence",
            kinds={second: 400, first: 400, **dict(list(kinds.items())[1:])},
            needed=1234,
            needed_from="images of <b>other</b> kinds",
        ),
    )
    rejection = Rejection("top", 0.625, unknown_label=False)
    draft = replace(policy.evidence.draft, prevalence=Prevalence(shares), rejection=rejection)
    calibration = (
        Calibration("raw", 321, 0.1158, 0.3763, 0.0654, 0.011, 0.0652, 0.0128),
        Calibration("platt", 321, 0.1063, 0.3309, 0.023, 0.0127, 0.0234, 0.0158),
    )
    evidence = replace(policy.evidence, draft=draft, promises=promises, calibration=calibration)
    return replace(policy, evidence=evidence, rejection=rejection)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same hostile data with a policy, with a refusal and without pictures, with measurements alone, at a mix."""
    folder = tmp_path_factory.mktemp("things")
    dataset = things(folder, HOSTILE)
    policy = policy_for(dataset)
    common = {"title": "<script>alert(1)</script> & more", "dataset": dataset, "created": "2026-11-23T16:32:00Z"}
    everything = runs(dataset, policy)
    own = {"own": everything["own"]}
    return {
        "full": write_report(folder / "new" / "full.html", evaluations=everything, policy=policy, **common),  # type: ignore[arg-type]
        "refused": write_report(
            folder / "refused.html",
            evaluations=own,
            evidence=policy.evidence,
            blocked=["recall <of> shoe is refused"],
            images=False,
            **common,  # type: ignore[arg-type]
        ),
        "plain": write_report(folder / "plain.html", evaluations=own, **common),  # type: ignore[arg-type]
        "mixed": write_report(folder / "mixed.html", evaluations=everything, policy=at_a_mix(policy), **common),  # type: ignore[arg-type]
    }


@pytest.fixture(scope="module")
def pages(written: dict[str, Path]) -> dict[str, Page]:
    return {name: Page(path.read_text(encoding="utf-8")) for name, path in written.items()}


KINDS = ["full", "refused", "plain", "mixed"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_needs_nothing_but_itself(pages: dict[str, Page], written: dict[str, Path], kind: str) -> None:
    page = pages[kind]
    forbidden = {"link", "iframe", "object", "embed", "base", "form", "svg", "video", "audio"}
    assert set() == forbidden & {tag for tag, _ in page.elements}
    for _, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "srcset", "href"):
            assert (attributes.get(name) or "#").startswith(("data:image/", "#"))
    policies = [tag["content"] for tag in page.all("meta") if tag.get("http-equiv") == "Content-Security-Policy"]
    data, script = re.findall(
        r"<script[^>]*>(.*?)</script>", written[kind].read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert [{"type": "application/json", "id": "curve-points"}, {}] == page.all("script")
    digest = b64encode(sha256(script.encode()).digest()).decode()
    allowed = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [allowed] == policies
    assert not set("<&") & set(data)
    numbers = [int(found["data-curve"] or "") for _, found in page.elements if "data-curve" in found]
    assert numbers == [number for number, curve in enumerate(json.loads(data)) if curve]


@pytest.mark.parametrize("kind", KINDS)
def test_the_style_loads_nothing(written: dict[str, Path], kind: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", written[kind].read_text(encoding="utf-8"), flags=re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    assert "@media (prefers-color-scheme: dark)" in style


def test_hostile_text_is_only_text(pages: dict[str, Page]) -> None:
    page = pages["full"]
    for label in (*HOSTILE[:3], "L" * 59 + "…", HOSTILE[4], "a b 😀 {{ 7*7 }}", "<other>", "<web>", "other <u>"):
        assert label in page.text
    assert "<script>alert(1)</script> & more" in page.text
    assert "<b>camera</b>" in " ".join(image["alt"] or "" for image in page.all("img"))
    assert [] == [tag for tag in ("u", "i") if page.all(tag)]


def test_it_leads_with_the_verdict(pages: dict[str, Page]) -> None:
    full, refused, plain, _ = (pages[kind].text for kind in KINDS)
    assert full.index("2 of 3 promises are certified, all at once with 95 % confidence.") < full.index("Promises Each")
    assert "No policy was exported. 2 of 3 promises could be certified." in refused
    assert "recall <of> shoe is refused" in refused
    assert "Measured, not certified: nothing on this page is a promise." in plain
    assert "Each goal was tested once" not in plain


def test_the_promises_are_all_in_the_table(pages: dict[str, Page]) -> None:
    text = pages["full"].text
    assert "review recall ≥ 90 % any 0.2 0.2 91.0 % 97 of 100 99.9 % ✓ certified" in spaced(pages["full"])
    assert "accept precision ≥ 90 % assigned – – – 97 of 100 99.9 % ✕ refused" in spaced(pages["full"])
    assert "Too few. About 10 more labelled images, drawn from images like these, for an 80 % chance." in text
    assert "△ stress-test" in text
    assert "4 images are too few." in text


def test_the_price_says_where_the_labels_come_from(pages: dict[str, Page]) -> None:
    expected = "About 1,234 more labelled images, drawn from images of <b>other</b> kinds, for an 80 % chance."
    assert expected in pages["mixed"].text


def test_bounds_stand_beside_the_share_they_are_for(pages: dict[str, Page], tmp_path: Path) -> None:
    policy = at_a_mix(policy_for(things(tmp_path, HOSTILE)))
    text = spaced(pages["mixed"])
    rare, stated, common = bounds_by_share(policy.evidence.draft, policy.evidence.promises[1])
    assert None not in (rare, stated)
    assert common is None
    cells = " ".join(
        ("✓ " if bound >= 0.9 else "") + percent_down(bound) for bound in (rare, stated) if bound is not None
    )
    assert f"accept ≥ 90 % 0.6 40 % {cells} – ".replace("\u202f", " ") in text
    assert "accept ≥ 90 % first tested 0.7 20 % " in text
    assert "Precision if the category is rarer" not in pages["full"].text


def test_the_verdict_and_identity_name_the_mix(pages: dict[str, Page]) -> None:
    text = spaced(pages["mixed"])
    assert "Precision is promised for this mix of arriving images: <img src=x onerror=alert(1)> 40 %" in text
    assert "Prevalence given, not measured; the shares stand in the table of images" in text
    assert "Look 1 of 1 planned: " in text
    assert "Error budget by policy" in text
    assert re.search(r"<other> \d+ \d+ 20 %", text)
    without = spaced(pages["full"])
    assert "Precision is promised for images that come as the certify images do." in without
    assert "Prevalence none stated: as the certify images" in without


def test_weighted_images_are_told_plainly(tmp_path: Path) -> None:
    dataset = things(tmp_path, HOSTILE)
    policy = policy_for(dataset)
    promises = tuple(replace(promise, method="weights") for promise in policy.evidence.promises)
    path = write_report(
        tmp_path / "weighted.html",
        title="t",
        evaluations={"own": runs(dataset, policy)["own"]},
        dataset=dataset,
        policy=replace(policy, evidence=replace(policy.evidence, promises=promises)),
        images=False,
    )
    page = Page(path.read_text(encoding="utf-8"))
    assert "come as the certify images do, where each counts for what it stands for." in page.text
    assert "in every test each image counts for what it stands for" in page.text


def test_unknown_is_told_from_known_by_the_signal_of_the_policy(pages: dict[str, Page], tmp_path: Path) -> None:
    dataset = things(tmp_path, HOSTILE)
    measures = runs(dataset, policy_for(dataset))["own"].rejection
    assert measures is not None
    frame = measures.frame()
    value = frame[
        (frame["signal"] == "top") & (frame["measure"] == "AUROC") & (frame["unknown_from"] == "every source")
    ]
    text = spaced(pages["mixed"])
    section = text[text.index("Unknown told from known") : text.index("Calibration How well")]
    assert "Measured on tune (optimistic: the tune split chose thresholds). Signal: top." in section
    assert f"AUROC {value['value'].item():.3f}" in section
    for word in ("FPR@95TPR", "OSCR", "AURC", "AUGRC", "<web>", "every source", "Among known images alone: AURC"):
        assert word in section
    assert "A stress test, no promise" in section
    assert 2 == text.count("Unknown told from known")
    frozen = [svg for svg in svgs(pages["mixed"]) if "frozen rule: top &lt; 0.625" in svg]
    assert 1 == len(frozen)


def svgs(page: Page) -> list[str]:
    start = "data:image/svg+xml;base64,"
    sources = [image["src"] or "" for image in page.all("img")]
    return [b64decode(source.removeprefix(start)).decode() for source in sources if source.startswith(start)]


def test_calibration_is_described_and_moves_nothing(pages: dict[str, Page]) -> None:
    text = spaced(pages["mixed"])
    section = text[text.index("Calibration How well") : text.index("Approaches Approach")]
    assert "This moves no decision and no promise: both rest on raw scores." in section
    assert "The diagram is of tune (optimistic: the tune split chose thresholds)." in section
    for row in ("Images 321 321", "Brier 0.116 0.106", "Log loss 0.376 0.331", "ECE 0.065 null 0.011 0.023 null 0.013"):
        assert row in section
    assert "Smooth ECE 0.065 null 0.013 0.023 null 0.016" in section
    assert "It was not measured on certify." in spaced(pages["full"])
    assert 2 == len([image for image in pages["mixed"].all("img") if "Reliability diagram" in (image["alt"] or "")])


def test_certified_floors_are_drawn_on_the_curves_of_the_tested_approach(pages: dict[str, Page]) -> None:
    assert 1 == len([svg for svg in svgs(pages["mixed"]) if "from 0.6 up at least 90 %," in svg])
    assert [] == [svg for svg in svgs(pages["plain"]) if "up at least" in svg]


def test_every_word_that_the_page_uses_is_explained(pages: dict[str, Page]) -> None:
    text = spaced(pages["mixed"])
    words = text[text.rindex("Words certified") :]
    for word in ("look", "prevalence", "AUROC", "FPR@95TPR", "OSCR", "AURC, AUGRC", "calibration", "ECE, null value"):
        assert f" {word} " in words


def spaced(page: Page) -> str:
    return " ".join(" ".join(page.words).split())


def test_accuracy_stands_beside_the_majority_and_says_its_split(pages: dict[str, Page]) -> None:
    text = spaced(pages["full"])
    assert "Majority baseline" in text
    assert text.count("tune (optimistic: the tune split chose thresholds)") >= 6
    assert text.index("own in the policy") < text.index("other <u>", text.index("Mean average precision"))


def test_identity_names_data_model_and_policy(pages: dict[str, Page], tmp_path: Path) -> None:
    dataset = things(tmp_path, HOSTILE)
    policy = policy_for(dataset)
    text = spaced(pages["full"])
    for expected in (
        dataset.digest,
        policy.digest,
        policy.origin.fingerprint,
        policy.evidence.look,
        "test-approach",
        "v1",
    ):
        assert expected in text
    assert "all images 20 40" not in text
    assert "all images 40 20" in text


def test_the_page_can_be_read_by_everyone(pages: dict[str, Page]) -> None:
    page = pages["full"]
    assert [{"lang": "en"}] == page.all("html")
    assert all(image["alt"] for image in page.all("img"))
    assert {"row", "col"} == {head["scope"] for head in page.all("th")}
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {link["href"] for link in page.all("a")} <= {f"#{name}" for name in ids}
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert (1, 1) == (levels[0], levels.count(1))
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_thumbnails_are_left_out_on_demand(pages: dict[str, Page]) -> None:
    def thumbnails(kind: str) -> list[str]:
        return [image["src"] or "" for image in pages[kind].all("img") if "thumbnail" in (image.get("class") or "")]

    assert len(thumbnails("full")) > 10
    assert {"data:image/png", "data:image/jpeg"} == {source.split(";")[0] for source in thumbnails("full")}
    assert [] == thumbnails("refused")
    assert "Pictures are left out of this report." in pages["refused"].text
    assert not [image for image in pages["refused"].all("img") if not (image["src"] or "").startswith("data:image/svg")]


def test_pictures_of_a_sensitive_data_set_are_left_out(written: dict[str, Path], tmp_path: Path) -> None:
    dataset = replace(things(tmp_path, HOSTILE), sensitive=True)
    own = {"own": runs(dataset, policy_for(dataset))["own"]}
    page = Page(write_report(tmp_path / "a.html", title="t", evaluations=own, dataset=dataset).read_text("utf-8"))
    assert [] == [image for image in page.all("img") if not (image["src"] or "").startswith("data:image/svg")]
    assert "Pictures are left out of this report, because the data set is marked sensitive." in page.text


def test_the_thresholds_of_the_policy_are_points_of_the_curves(tmp_path: Path) -> None:
    dataset = things(tmp_path, HOSTILE)
    policy = policy_for(dataset)
    first, second, *_ = policy.categories  # no image of tune shows the first category, so its tiers go to the second
    tiers = (replace(first, category=second.category), replace(second, category=first.category), *policy.categories[2:])
    own = {"own": runs(dataset, policy)["own"]}
    path = write_report(
        tmp_path / "a.html", title="t", evaluations=own, dataset=dataset, policy=replace(policy, categories=tiers)
    )
    (data,) = re.findall(r"<script type[^>]*>(.*?)</script>", path.read_text(encoding="utf-8"), re.DOTALL)
    points = next(curve for curve in json.loads(data) if curve)["points"]
    found = {name: point for point in points for name in point.get("tiers", [])}
    assert {"review ≥ 0.2", "accept ≥ 0.6"} == set(found)
    for name, point in found.items():
        at = own["own"].curves[second.category].curve.at(float(name.partition(" ≥ ")[2]))
        assert (at.true_positives, at.predicted_positives) == (point["right"], point["told"])


def test_the_script_is_given_the_figures_of_evaluation(pages: dict[str, Page], written: dict[str, Path]) -> None:
    (data,) = re.findall(r"<script type[^>]*>(.*?)</script>", written["plain"].read_text(encoding="utf-8"), re.DOTALL)
    found = next(curve for curve in json.loads(data) if curve)
    for point in found["points"]:
        assert point["precision"][0] == float(f"{100 * point['right'] / point['told']:.1f}")
        assert point["recall"][0] == float(f"{100 * point['right'] / found['positives']:.1f}")
        for name, trials in (("precision", point["told"]), ("recall", found["positives"])):
            low, high = clopper_pearson(point["right"], trials)
            assert [float(f"{100 * low:.1f}"), float(f"{100 * high:.1f}")] == point[name][1:]


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_stays_small_and_nothing_else_is_written(written: dict[str, Path], kind: str) -> None:
    assert written[kind].stat().st_size < 5_000_000
    assert [] == list(written[kind].parent.glob("*.part"))


def test_a_thing_without_figures_is_called_not_available(tmp_path: Path) -> None:
    taxonomy = Taxonomy(("shoe", "boot"))
    dataset = make_dataset([("shoe",), ("shoe",)], taxonomy, ids=["a", "b"])
    evaluation = evaluate(join(make_run(dataset, [[0.9, 0.1], [0.8, 0.2]]), dataset))
    page = Page(
        write_report(tmp_path / "a.html", title="t", evaluations={"a": evaluation}, dataset=dataset).read_text()
    )
    assert "boot 0 0 0 n/a n/a n/a n/a" in spaced(page)
    assert "No image here shows boot" in page.text
    assert "None." in page.text


def test_multi_label_explains_its_accuracy_and_has_no_confusion(tmp_path: Path) -> None:
    taxonomy = Taxonomy(("shoe", "boot"), "multi-label")
    dataset = make_dataset([("shoe", "boot"), ()], taxonomy, ids=["a", "b"])
    evaluation = evaluate(join(make_run(dataset, [[0.9, 0.8], [0.8, 0.2]]), dataset))
    page = Page(
        write_report(tmp_path / "a.html", title="t", evaluations={"a": evaluation}, dataset=dataset).read_text()
    )
    assert "every category of the image told rightly at a score of 0.5" in page.text
    assert "confusion" not in page.text.lower()
