"""The project file that `init` writes: its comments, too, are fields that may be used."""

from __future__ import annotations

import re
from pathlib import Path

from workbench.cli.dataset import TEMPLATE
from workbench.config.goals import check_goals
from workbench.config.project import read_project

FILLED = {
    "path": ".",
    "name": "things",
    "categories": '"shoe", "sock"',
    "outside": "refuse",
    "signal": "top",
    "limits": "",
}


def test_every_commented_field_may_be_used(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^# (?=\[|[\w-]+ = )", "", TEMPLATE.format(**FILLED))
    (tmp_path / "workbench.toml").write_text(text, encoding="utf-8")
    project = read_project(tmp_path / "workbench.toml")
    goals = project.goals
    assert goals is not None
    assert project.taxonomy is not None
    check_goals(goals, project.taxonomy, "template")
    assert goals.prevalence is not None
    assert {"shoe": 0.1, "sock": 0.7, "unknown": 0.2} == goals.prevalence.shares
    assert (2, "category") == (goals.looks, goals.budget)
    assert goals.costs is not None
    assert (5.0, 1.0, 0.2) == (goals.costs.false_positive, goals.costs.false_negative, goals.costs.review)
    assert ["cost"] == [tier.ask for tier in goals.category["shoe"]]
