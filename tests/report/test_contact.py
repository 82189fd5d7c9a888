from __future__ import annotations

from pathlib import Path

from drawn import KINDS, draw_dataset, rows_of
from workbench.evaluation.figures import to_png
from workbench.records import Taxonomy
from workbench.report.contact import plot_images


def test_a_contact_sheet_has_a_row_per_category_and_survives_a_broken_picture(tmp_path: Path) -> None:
    dataset = draw_dataset(tmp_path / "set", rows_of("single-label"), Taxonomy(KINDS))
    first = next(path for path, labels in zip(dataset.frame["path"], dataset.frame["labels"], strict=True) if labels)
    dataset.file(first).write_bytes(b"not a picture")
    figure = plot_images(dataset, each=3)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert [*(f"{kind} · 12" for kind in KINDS), "unknown · 12"] == [title for title in titles if title]
    assert 1 == sum(text.get_text() == "unreadable" for ax in figure.axes for text in ax.texts)
    assert 11 == sum(len(ax.images) for ax in figure.axes)
    assert to_png(figure).startswith(b"\x89PNG")
