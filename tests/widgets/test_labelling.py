"""What to label next, without a browser: power, numbers and the queue."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from part_labelled import make_part, released
from workbench.errors import InputError
from workbench.release.labelling import POWERS
from workbench.widgets.labelling import LabelNext


@pytest.fixture
def widget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelNext:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    dataset, table = make_part(tmp_path / "images")
    release, ledger = released(dataset, table)
    return LabelNext(release, table, dataset, out=tmp_path / "queue.csv", ledger=ledger)


def test_the_state_says_what_the_plan_says_at_every_power(widget: LabelNext) -> None:
    names = [promise["name"] for promise in widget._spec["promises"]]
    for power in POWERS:
        widget.choose(power)
        wanted = {promise.name: promise.needed for promise in widget.plan.promises}
        assert [wanted[name] for name in names] == widget._state["needed"]
        assert (power, widget.plan.images) == (widget._state["power"], widget._state["images"])
        assert list(widget.plan.queue["image_id"][:12]) == [item["id"] for item in widget._state["items"]]
    with pytest.raises(InputError, match=r"power"):
        widget.choose(0.2)


def test_the_queue_of_one_click_is_that_of_the_plan(widget: LabelNext, tmp_path: Path) -> None:
    assert widget._state["written"] is None
    path = widget.write()
    assert tmp_path / "queue.csv" == path
    assert list(widget.plan.queue["image_id"]) == list(pd.read_csv(path)["image_id"])
    assert (str(path), len(widget.plan.queue)) == (
        widget._state["written"]["path"],
        widget._state["written"]["images"],
    )


def test_curves_rise_from_no_image_on_and_are_sent_short(widget: LabelNext) -> None:
    curves = [promise["curve"] for promise in widget._spec["promises"] if promise["curve"]]
    assert curves
    for curve in curves:
        assert 1 < len(curve) <= 160
        assert 0 == curve[0][0]
        assert sorted(curve) == curve


def test_without_a_browser_it_shows_text_a_table_and_a_picture(widget: LabelNext) -> None:
    bundle = widget._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert "promises were refused" in data["text/plain"]
    assert {"text/html", "image/png"} <= set(data)
