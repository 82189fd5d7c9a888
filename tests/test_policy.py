"""The policy file: what reading accepts, what it refuses, and where it says the fault is."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import workbench
from samples import T, make_policy, policies
from workbench.canonical import digest
from workbench.errors import DocumentError
from workbench.policy import (
    parse_policy,
    policy_document,
    policy_faults,
    policy_schema,
    read_policy,
    read_shape,
    write_policy,
)
from workbench.records import Policy, Rejection, Routing, Vector

POLICY = replace(
    make_policy(
        {"shoe": [T("review", 0.3, "any", "recall"), T("accept", 0.72)], "boot": [T("accept", None)]},
        rejection=Rejection("top", 0.25, unknown_label=False),
    ),
    vectors=(Vector("certain", "ok", {"shoe": 1.0, "boot": None, "bag": None}, "accept", ("shoe",)),),
)


def test_a_policy_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    write_policy(POLICY, tmp_path / "policy.json")
    assert POLICY == read_policy(tmp_path / "policy.json")
    assert ["policy.json"] == [file.name for file in tmp_path.iterdir()]


def test_thresholds_are_written_in_their_shortest_form() -> None:
    assert 0.72 == policy_document(POLICY)["categories"][0]["tiers"][1]["threshold"]


@settings(max_examples=settings().max_examples * 3 // 5)
@given(policies())
def test_every_policy_survives_writing_and_reading(policy: Policy) -> None:
    assert policy == parse_policy(json.dumps(policy_document(policy)))


def test_the_digest_is_that_of_all_parts_and_names_each() -> None:
    document = policy_document(POLICY)
    assert POLICY.digest == document["digest"]
    assert digest(document["routing"]) == document["digests"]["routing"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a document that holds something with a digit in it."""
    if isinstance(value, dict):
        return [place for key, item in value.items() for place in places(item, (*path, key))]
    if isinstance(value, list):
        return [place for key, item in enumerate(value) for place in places(item, (*path, key))]
    shown = json.dumps(value)
    return [path] if any(character.isdigit() for character in shown) else []


@pytest.mark.parametrize("path", places(policy_document(POLICY)), ids=lambda path: "/".join(map(str, path)))
def test_changing_one_digit_anywhere_is_refused_and_the_place_is_named(path: tuple[Any, ...]) -> None:
    document = deepcopy(policy_document(POLICY))
    holder: Any = document
    for key in path[:-1]:
        holder = holder[key]
    shown = json.dumps(holder[path[-1]])
    where = max(index for index, character in enumerate(shown) if character.isdigit())
    other = str((int(shown[where]) + 1) % 10)
    holder[path[-1]] = json.loads(shown[:where] + other + shown[where + 1 :])
    with pytest.raises(DocumentError) as caught:
        parse_policy(json.dumps(document))
    assert caught.value.pointer.startswith(f"/{path[0]}"), caught.value


def _edit(change: Callable[[dict[str, Any]], None], *, seal: bool = True) -> str:
    document = deepcopy(policy_document(POLICY))
    change(document)
    if seal:
        parts = {name: part for name, part in document.items() if name not in ("digest", "digests")}
        document |= {"digests": {name: digest(part) for name, part in parts.items()}, "digest": digest(parts)}
    return json.dumps(document)


SHAPES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "true for a number": (lambda d: d["rejection"].update(threshold=True), "/rejection/threshold"),
    "text for a number": (lambda d: d["rejection"].update(threshold="0.5"), "/rejection/threshold"),
    "unknown field": (lambda d: d["routing"].update(colour="red"), "/routing/colour"),
    "unknown top-level part": (lambda d: d.update(notes={}), "/notes"),
    "missing field": (lambda d: d["routing"].pop("below"), "/routing/below"),
    "out of range": (lambda d: d["rejection"].update(threshold=-0.1), "/rejection/threshold"),
    "newer major version": (lambda d: d.update(schema_version="2.0"), "/schema_version"),
    "no version": (lambda d: d.pop("schema_version"), "/schema_version"),
    "wrong word": (lambda d: d["taxonomy"].update(mode="both"), "/taxonomy/mode"),
    "fraction of a rank": (lambda d: d["actions"][1].update(rank=1.5), "/actions/1/rank"),
    "empty name": (lambda d: d["actions"][1].update(name=""), "/actions/1/name"),
    "list for an object": (lambda d: d.update(routing=[]), "/routing"),
    "missing category": (lambda d: d["categories"].pop(), "/categories"),
    "categories in another order": (lambda d: d["categories"].reverse(), "/categories"),
    "unknown action": (lambda d: d["routing"].update(below="burn"), "/routing/below"),
    "automatic action for an outcome": (
        lambda d: d["routing"].update(on_outcome={"corrupt": "accept"}),
        "/routing/on_outcome/corrupt",
    ),
    "automatic action for quality": (lambda d: d["routing"].update(on_quality="pass"), "/routing/on_quality"),
    "unknown outcome": (lambda d: d["routing"].update(on_outcome={"a/b": "review"}), "/routing/on_outcome/a~1b"),
    "automatic action below": (lambda d: d["routing"].update(below="accept"), "/routing/below"),
    "automatic action on rejection": (lambda d: d["rejection"].update(action="accept"), "/rejection/action"),
    "threshold without a signal": (lambda d: d["rejection"].update(signal="none"), "/rejection/threshold"),
    "signal without a threshold": (lambda d: d["rejection"].update(threshold=None), "/rejection/threshold"),
    "two actions of one rank": (lambda d: d["actions"][2].update(rank=1), "/actions/2/rank"),
    "two actions of one name": (lambda d: d["actions"][2].update(name="review"), "/actions/2/name"),
    "no action of rank 0": (lambda d: d["actions"][0].update(rank=9), "/actions"),
    "no review": (lambda d: d["actions"][1].update(kind="automatic"), "/actions"),
    "threshold that the evidence does not certify": (
        lambda d: d["categories"][0]["tiers"][1].update(threshold=0.71),
        "/categories/0/tiers/1/threshold",
    ),
    "threshold of a refused tier": (
        lambda d: d["categories"][1]["tiers"][0].update(threshold=0.9),
        "/categories/1/tiers/0/threshold",
    ),
    "goal that was not tested": (
        lambda d: d["categories"][0]["tiers"][1].update(at_least=0.8),
        "/categories/0/tiers/1/threshold",
    ),
    "routing that was not tested": (lambda d: d["routing"].update(below="review"), "/routing"),
    "falling ranks": (lambda d: d["categories"][0]["tiers"].reverse(), "/categories/0/tiers/1/action"),
    "automatic action of wide scope": (
        lambda d: d["categories"][0]["tiers"][1].update(scope="any"),
        "/categories/0/tiers/1/scope",
    ),
    "taxonomy that the origin does not name": (lambda d: d["taxonomy"].update(unknown="other"), "/origin/taxonomy"),
    "unknown among the categories": (lambda d: d["taxonomy"].update(unknown="shoe"), "/taxonomy/unknown"),
    "more digits than a binary32 has": (
        lambda d: d["rejection"].update(threshold=0.2500000001),
        "",
    ),
}


@pytest.mark.parametrize(("change", "pointer"), SHAPES.values(), ids=SHAPES)
def test_a_policy_that_breaks_a_rule_is_refused_with_its_place(
    change: Callable[[dict[str, Any]], Any], pointer: str
) -> None:
    with pytest.raises(DocumentError) as caught:
        parse_policy(_edit(change))
    assert pointer == caught.value.pointer, caught.value


TEXTS = {
    "not a number": ('"threshold": 0.25', '"threshold": NaN', "/rejection/threshold"),
    "infinity": ('"threshold": 0.25', '"threshold": -Infinity', "/rejection/threshold"),
    "too large a number": ('"threshold": 0.25', '"threshold": 1e400', "/rejection/threshold"),
    "a key twice": ('"threshold": 0.25', '"threshold": 0.25, "threshold": 0.1', "/rejection/threshold"),
}


@pytest.mark.parametrize(("old", "new", "pointer"), TEXTS.values(), ids=TEXTS)
def test_what_json_lets_slip_through_is_refused(old: str, new: str, pointer: str) -> None:
    text = json.dumps(policy_document(POLICY))
    assert 2 == text.count(old)  # the rule itself, and the draft it was tested in
    place = text.index(old)
    with pytest.raises(DocumentError) as caught:
        parse_policy(text[:place] + new + text[place + len(old) :])
    assert pointer == caught.value.pointer


def test_an_edited_digest_is_named_as_such() -> None:
    document = policy_document(POLICY)
    document["digests"]["routing"] = "0" * 64
    with pytest.raises(DocumentError) as caught:
        parse_policy(json.dumps(document))
    assert "/digests/routing" == caught.value.pointer


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 100_000])
def test_what_is_no_policy_is_refused_with_the_file_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"policy\.json"):
        read_policy(path)
    with pytest.raises(DocumentError, match="cannot be read"):
        read_policy(tmp_path / "absent.json")


HEX, WHOLE = "expected a SHA-256 in hex", "there must be one digest per top-level part"
SEALS: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    "no text": (lambda d: d.update(digest=7), "/digest", HEX),
    "too short": (lambda d: d.update(digest="a" * 63), "/digest", HEX),
    "no hex": (lambda d: d.update(digest="X" * 64), "/digest", HEX),
    "capitals": (lambda d: d.update(digest="A" * 64), "/digest", HEX),
    "a list of digests": (lambda d: d.update(digests=[]), "/digests", "expected an object"),
    "a digest too few": (lambda d: d["digests"].pop("routing"), "/digests/routing", WHOLE),
    "a digest too many": (lambda d: d["digests"].update({"a/b": "0" * 64}), "/digests/a~1b", WHOLE),
    "no digest of a part": (lambda d: d["digests"].update(routing="0"), "/digests/routing", HEX),
    "another whole": (lambda d: d.update(digest="0" * 64), "/digest", "the digest of the whole differs"),
    "another part": (
        lambda d: d["evidence"].update(seed=7),
        "/evidence",
        "changed after the policy was sealed: its digest differs",
    ),
}


@pytest.mark.parametrize("name", SEALS)
def test_a_broken_seal_is_told_in_words(name: str) -> None:
    change, pointer, words = SEALS[name]
    with pytest.raises(DocumentError) as caught:
        parse_policy(_edit(change, seal=False))
    assert (pointer, words) == (caught.value.pointer, caught.value.message)


@pytest.mark.parametrize(
    ("tiers", "place", "words"),
    [
        ([T("accept", 0.3), T("review", 0.4)], "/categories/0/tiers/1/action", "tiers must rise strictly in rank"),
        ([T("review", 0.3), T("review", 0.4)], "/categories/0/tiers/1/action", "tiers must rise strictly in rank"),
        (
            [T("review", 0.3), T("escalate", 0.4, "any")],
            "/categories/0/tiers/1/scope",
            "a higher tier may not have the wider scope",
        ),
        (
            [T("review", 0.4), T("accept", 0.3)],
            "/categories/0/tiers/1/threshold",
            "a higher tier's threshold may not be the lower one",
        ),
        ([T("pass", 0.4)], "/categories/0/tiers/0/action", "a tier must lead to something; this action has rank 0"),
    ],
)
def test_tiers_in_a_wrong_order_are_told_in_words(tiers: list[T], place: str, words: str) -> None:
    assert (place, words) in list(policy_faults(make_policy({"shoe": tiers})))


def test_what_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    def message(path: Path) -> tuple[str, str]:
        with pytest.raises(DocumentError) as caught:
            read_policy(path)
        return caught.value.pointer, caught.value.message

    path = tmp_path / "policy.json"
    assert ("", f"{path}: cannot be read: No such file or directory") == message(path)
    path.write_bytes(b"\xff\xfe")
    assert ("", f"{path}: not UTF-8: invalid start byte at byte 0") == message(path)
    path.write_text(_edit(lambda d: d["routing"].update(below="burn")))
    pointer, words = message(path)
    assert ("/routing/below", True) == (pointer, words.endswith(f"({path})"))


def test_why_a_policy_is_not_written_is_told(tmp_path: Path) -> None:
    broken = replace(POLICY, routing=Routing("accept"))
    with pytest.raises(DocumentError) as caught:
        write_policy(broken, tmp_path / "policy.json")
    assert (caught.value.pointer, caught.value.message) == next(iter(policy_faults(broken)))


def test_a_policy_that_breaks_a_rule_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(DocumentError):
        write_policy(replace(POLICY, routing=Routing("accept")), tmp_path / "policy.json")
    assert [] == list(tmp_path.iterdir())


@settings(max_examples=settings().max_examples * 3 // 5)
@given(policies())
def test_drawn_policies_keep_every_rule(policy: Policy) -> None:
    assert [] == list(policy_faults(policy))


# Reader and schema


VALIDATOR = jsonschema.Draft202012Validator(policy_schema())
values = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.just(2.0), st.just(0.5), st.text(max_size=2),
    st.just("human"), st.just("any"), st.just([]), st.just({}), st.just("f" * 64),
)  # fmt: skip


@settings(max_examples=settings().max_examples * 2)
@given(st.data())
def test_reader_and_published_schema_accept_the_same_documents(data: st.DataObject) -> None:
    document = deepcopy(policy_document(POLICY))
    for _ in range(data.draw(st.integers(0, 2))):
        _mutate(document, data)
    assert VALIDATOR.is_valid(document) == _is_read(document)


def _mutate(document: Any, data: st.DataObject) -> None:
    holder = document
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return
        key = data.draw(st.sampled_from(keys))
        inner = holder[key]
        if isinstance(inner, dict | list) and inner and data.draw(st.integers(0, 3)):
            holder = inner
            continue
        kind = data.draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "replace":
            holder[key] = data.draw(values)
        elif kind == "remove":
            del holder[key]
        elif isinstance(holder, dict):
            holder[data.draw(st.sampled_from(["extra", "threshold", "source"]))] = data.draw(values)
        return


def _is_read(document: Any) -> bool:
    try:
        read_shape(document)
    except DocumentError:
        return False
    return True


def test_the_published_schema_is_the_generated_one() -> None:
    published = Path(workbench.__file__).with_name("policy.schema.json")
    assert policy_schema() == json.loads(published.read_text(encoding="utf-8"))
