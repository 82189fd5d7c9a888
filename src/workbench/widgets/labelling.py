"""What to label next: refused promises, power against images, the pictures, and one button that makes the queue."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.dataset.images import Dataset
from workbench.errors import InputError
from workbench.evaluation import figures
from workbench.evaluation.results import as_html
from workbench.evaluation.sample_size import POWER
from workbench.predictions import PredictionTable
from workbench.records import Policy
from workbench.release.gate import Release
from workbench.release.labelling import HIGHEST_POWER, LOWEST_POWER, LabelPlan, Wanted, plan_labels
from workbench.release.labelqueue import next_steps, write_queue
from workbench.release.ledger import Ledger
from workbench.widgets.panel import Panel, asset
from workbench.widgets.pictures import Pictures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_POINTS = 160
_MOST_SHOWN = 48


class Labelling:
    """What holds in the widget: a plan at one power, and the queue that was written of it."""

    def __init__(self, plan: LabelPlan, out: Path) -> None:
        self.plan, self.out = plan, out
        self.written: tuple[Path, int, float] | None = None
        """The file, how many images, and at which power; None before."""

    def choose(self, power: float) -> None:
        """Another power. Raises InputError outside [0.5, 0.99]."""
        self.plan = self.plan.at(power)

    def write(self, path: Path | None = None) -> bool:
        """Write the queue; False if the file holds just this already. Raises InputError as `write_queue` does."""
        target = path or self.out
        new = write_queue(self.plan, target)
        self.written = (target, len(self.plan.queue), self.plan.power)
        return new


class LabelNext(Panel):
    """See what each refused promise would take, choose a power, and make the queue of images to label.

    release  what the gate said, or a policy some of whose tiers were refused
    run      the run that was released
    dataset  its images
    out      where "Make the queue" writes: .csv or .jsonl

    Nothing here is a look at certify, and no picture is chosen, or shown, by its scores. Raises as `plan_labels` does.
    """

    _esm = asset("shared.js", "pictures.js", "labelling.js")
    _css = asset("shared.css", "pictures.css", "labelling.css")
    _spec = traitlets.Dict().tag(sync=True)
    """What never changes: names, reasons, curves."""
    _state = traitlets.Dict().tag(sync=True)
    """Power, numbers, and what was written."""

    def __init__(
        self,
        release: Release | Policy,
        run: PredictionTable,
        dataset: Dataset,
        *,
        power: float = POWER,
        seed: int = 0,
        out: Path | str = "queue.csv",
        ledger: Ledger | None = None,
    ) -> None:
        plan = plan_labels(release, run, dataset, power, seed=seed, ledger=ledger)
        super().__init__()
        self.labelling = Labelling(plan, Path(out))
        self._names = [promise.name for promise in plan.promises]
        self._spec = {
            "title": f"What to label next: {dataset.name}",
            "lowest": LOWEST_POWER,
            "highest": HIGHEST_POWER,
            "out": str(out),
            "promises": [_promise_document(promise) for promise in plan.promises],
        }
        self._mirror()
        self.answer(choose=self._choose, more=self._more, write=self._write, **Pictures(dataset).handlers())

    @property
    def plan(self) -> LabelPlan:
        """The plan at the power that is chosen."""
        return self.labelling.plan

    def choose(self, power: float) -> None:
        """Set the power, in [0.5, 0.99]."""
        with self.changing():
            self.labelling.choose(power)

    def write(self, path: Path | str | None = None) -> Path:
        """Write the queue, by default to `out`, and say where it is. Raises InputError as `write_queue` does."""
        with self.changing():
            self.labelling.write(None if path is None else Path(path))
        assert self.labelling.written is not None  # noqa: S101 -- just written
        return self.labelling.written[0]

    def describe(self) -> str:
        """How many promises were refused, and how many images would give them their chance."""
        plan = self.plan
        helped = sum(promise.needed is not None for promise in plan.promises)
        return (
            f"What to label next of {plan.dataset.name}: {len(plan.promises)} promises were refused, labels help "
            f"{helped}; {plan.images} further random images for a chance of {plan.power:.0%} each, "
            f"{len(plan.pool)} may be drawn"
        )

    def table(self) -> str:
        """The refused promises as HTML."""
        return as_html(self.plan.frame())

    def figure(self) -> Figure:
        """Power against further images, one line per promise that labels help."""
        ax = figures.new_axes(7.2, 3.6)
        theme, handles, names = figures.theme_of(ax), list[Any](), list[str]()
        for promise in self.plan.promises:
            if promise.curve is not None:
                images, power = promise.curve.images, promise.curve.power
                style: Any = ["-", "--", ":", "-."][len(handles) % 4]
                color = (theme.first, theme.second)[len(handles) // 4 % 2]
                handles += ax.plot(images, power, linestyle=style, color=color, linewidth=1.6)
                names.append(figures.printable(promise.name, 40))
        ax.axhline(self.plan.power, color=theme.soft, linewidth=0.8)
        right = max(1.0, 1.15 * self.plan.at(HIGHEST_POWER).images)
        ax.set(xlim=(0, right), ylim=(0, 1.02), xlabel="further labelled images, drawn at random", ylabel="power")
        figures.dress(ax, "Chance that a promise is certified", "if the rates counted on certify are true")
        figures.add_legend(ax, handles, names, loc="lower right")
        return figures.figure_of(ax)

    def _mirror(self) -> None:
        plan, written = self.plan, self.labelling.written
        by_name = {promise.name: promise for promise in plan.promises}
        queue = plan.queue
        self._state = {
            "power": plan.power,
            "needed": [by_name[name].needed for name in self._names],
            "expected": [dict(by_name[name].expected) for name in self._names],
            "images": plan.images,
            "queue": len(queue),
            "pool": len(plan.pool),
            "remarks": list(plan.remarks()),
            "items": self._items(0, 12),
            "written": None
            if written is None
            else {
                "path": str(written[0]),
                "images": written[1],
                "power": written[2],
                "next": next_steps(plan, written[0]),
            },
        }

    def _items(self, start: int, count: int) -> list[dict[str, Any]]:
        rows = self.plan.queue.iloc[start : start + count]
        needed = [promise.needed for promise in self.plan.promises if promise.needed is not None]
        served = [sum(place < images for images in needed) for place in range(start, start + len(rows))]
        return [
            {"id": image_id, "title": f"for {number} promises" if number > 1 else "for 1 promise", "mark": f"{place}."}
            for place, (image_id, number) in enumerate(zip(rows["image_id"], served, strict=True), start=start + 1)
        ]

    def _choose(self, content: Mapping[str, Any]) -> None:
        power = content.get("power")
        if not isinstance(power, int | float):
            raise InputError(f"{power!r} is no power")
        self.choose(float(power))

    def _more(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        start, count = int(content.get("start", 0)), int(content.get("count", 12))
        if start < 0 or not 0 < count <= _MOST_SHOWN:
            raise InputError(f"at most {_MOST_SHOWN} pictures from 0 on, not {count} from {start}")
        return {"items": self._items(start, count)}

    def _write(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        with self.changing():
            return {"new": self.labelling.write(Path(str(content.get("path") or self.labelling.out)))}


def _promise_document(promise: Wanted) -> dict[str, Any]:
    """A promise with at most 160 points of its curve, those that 99 % needs and the next."""
    curve = promise.curve
    points: list[list[float]] = []
    if curve is not None:
        last = min(int((curve.power < HIGHEST_POWER).sum()) + 1, len(curve.images))
        step = max(1, -(-last // _MOST_POINTS))
        points = [[int(curve.images[place]), float(curve.power[place])] for place in range(0, last, step)]
    return {
        "name": promise.name,
        "reason": promise.reason,
        "outlook": promise.outlook,
        "remark": promise.remark,
        "counted": f"{promise.successes} of {promise.trials}",
        "least": promise.least,
        "curve": points,
    }
