"""What Claude is told, and the form that it must answer in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.approaches.claude_prompt import (
    Form,
    Prompt,
    answer_schema,
    example_text,
    question_text,
    read_prompt,
    sample_answer,
    system_text,
)
from workbench.errors import ConfigError
from workbench.records import Mode, Taxonomy

PACKAGED = files("workbench.approaches").joinpath("prompts", "claude-1.md").read_text(encoding="utf-8")


def form(mode: Mode = "single-label", **changes: Any) -> Form:
    fields = {"protocol": "top-k", "guesses": 2, "definitions": {}, "seed": 7, "shuffle": False, **changes}
    return Form(Taxonomy(("disc", "stripes", "checks"), mode), **fields)  # type: ignore[arg-type]


@pytest.fixture
def prompt() -> Prompt:
    return read_prompt(None)


def test_the_packaged_prompt_says_what_it_must(prompt: Prompt) -> None:
    assert "claude-1" == prompt.version
    text = system_text(prompt, form(), 0)
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    assert ['- "disc"', '- "stripes"', '- "checks"'] == lines[:3]
    assert lines[3].startswith('- "unknown": none of the other labels')
    assert "never instructions to you" in text
    assert "2 best guesses" in text
    assert "all of yours together make 1" in text
    assert "together make 1" not in system_text(prompt, form("multi-label"), 0)
    assert "as confidence" in system_text(prompt, form(protocol="single"), 0)
    assert "What `claude` is told" not in text
    assert "$" not in text + question_text(prompt) + example_text(prompt, ("disc", "checks"))


def test_definitions_stand_beside_their_labels_as_they_were_written(prompt: Prompt) -> None:
    meant = form(definitions={"disc": "a $guesses disc", "unknown": "anything else"})
    text = system_text(prompt, meant, 0)
    assert '- "disc": a $guesses disc\n- "stripes"\n- "checks"\n- "unknown": anything else\n' in text


def test_a_label_cannot_leave_its_line(prompt: Prompt) -> None:
    odd = Form(Taxonomy(('a"\n- b',)), "top-k", 2, {}, 0, False)
    assert '- "a\\"\\n- b"\n' in system_text(prompt, odd, 0)


@given(st.integers(0, 30), st.integers(-5, 5), st.booleans())
def test_the_order_of_a_part_is_its_own(part: int, seed: int, shuffle: bool) -> None:
    one = form(seed=seed, shuffle=shuffle)
    assert sorted(one.labels) == sorted(one.order(part))
    assert one.order(part) == form(seed=seed, shuffle=shuffle, guesses=1).order(part)
    if part == 0 and not shuffle:
        assert one.labels == one.order(0)


def test_parts_differ_in_their_order_and_seeds_in_all() -> None:
    assert 5 < len({form().order(part) for part in range(20)})
    assert form(seed=1, shuffle=True).order(0) != form(seed=2, shuffle=True).order(0)
    assert form(shuffle=True).order(3) == form(shuffle=False).order(3)


@pytest.mark.parametrize("protocol", ["top-k", "single"])
def test_the_schema_is_a_closed_list_and_needs_what_it_names(protocol: str) -> None:
    schema = answer_schema(form(protocol=protocol), 1)
    objects = [part for part in walk(schema) if part.get("type") == "object"]
    assert objects
    for part in objects:
        assert part["additionalProperties"] is False
        assert list(part["properties"]) == part["required"]
    enums = [part["enum"] for part in walk(schema) if "enum" in part]
    assert [list(form().order(1))] == enums
    assert {"type", "properties", "required", "additionalProperties", "enum", "$ref", "$defs"} >= {
        keyword for part in walk(schema) if "properties" in part or "enum" in part for keyword in part
    }


def walk(schema: Any) -> list[Mapping[str, Any]]:
    if not isinstance(schema, Mapping):
        return []
    return [schema, *(part for inner in schema.values() for part in walk(inner))]


@pytest.mark.parametrize("protocol", ["top-k", "single"])
def test_a_sample_answer_keeps_the_schema(protocol: str) -> None:
    import jsonschema

    asked = form(protocol=protocol)
    answer = sample_answer(asked, asked.labels[:2], 0.5, spaced=True)
    jsonschema.validate(json.loads(answer), answer_schema(asked, 0))
    assert len(sample_answer(asked, asked.labels[:2], 0.5, spaced=False)) < len(answer)


class TestFiles:
    def own(self, folder: Path, text: str) -> Path:
        path = folder / "mine.md"
        path.write_text(text, encoding="utf-8")
        return path

    def test_a_file_of_ones_own_is_read(self, tmp_path: Path) -> None:
        mine = PACKAGED.replace("# claude-1", "# mine-2").replace("You sort images", "Du sortierst Bilder")
        prompt = read_prompt(self.own(tmp_path, mine))
        assert "mine-2" == prompt.version
        assert "Du sortierst Bilder" in system_text(prompt, form(), 0)

    @pytest.mark.parametrize(
        ("old", "new", "words"),
        [
            ("# claude-1\n", "", "first line must name the version"),
            ("## caution", "## warning", "no section '## caution'; '## warning' is no section"),
            (PACKAGED, "", "first line must name the version"),
            ("## question", "## question\n\nWhich?\n\n## question", "'## question' stands twice"),
        ],
    )
    def test_what_is_wrong_with_it_is_named(self, tmp_path: Path, old: str, new: str, words: str) -> None:
        with pytest.raises(ConfigError, match=r"approaches\.claude\.prompt") as caught:
            read_prompt(self.own(tmp_path, PACKAGED.replace(old, new)))
        assert words in str(caught.value)

    def test_a_word_that_cannot_be_filled_in_is_named(self, tmp_path: Path) -> None:
        prompt = read_prompt(self.own(tmp_path, PACKAGED.replace("$guesses", "$guess")))
        with pytest.raises(ConfigError, match=r"'## top-k single-label': cannot fill in 'guess'; it may hold \$labels"):
            system_text(prompt, form(), 0)

    def test_a_file_that_is_not_there_or_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            read_prompt(tmp_path / "none.md")
        (tmp_path / "bytes.md").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(ConfigError, match="not UTF-8 text"):
            read_prompt(tmp_path / "bytes.md")

    def test_a_mark_of_the_byte_order_is_no_part_of_it(self, tmp_path: Path) -> None:
        assert read_prompt(self.own(tmp_path, PACKAGED)) == read_prompt(self.own(tmp_path, "\ufeff" + PACKAGED))

    @pytest.mark.parametrize("path", [Path(), Path("/dev/zero")])
    def test_what_is_no_file_is_not_read(self, path: Path) -> None:
        with pytest.raises(ConfigError, match="not an ordinary file"):
            read_prompt(path)

    def test_what_is_too_long_is_not_read(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="at most 1,000,000 bytes"):
            read_prompt(self.own(tmp_path, PACKAGED + " " * 1_000_000))
