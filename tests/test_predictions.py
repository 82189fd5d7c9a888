from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from workbench.canonical import binary32
from workbench.errors import RunError
from workbench.predictions import PredictionTable, RunInfo, read_predictions, write_predictions
from workbench.records import CENSORED, MISSING, OK, Origin, Prediction, Taxonomy

TAXONOMY = Taxonomy(("shoe", "Büchse, große"))
INFO = RunInfo(
    schema_version="1.0",
    origin=Origin("toy", "toy-1", "a" * 64, "pixels-1", TAXONOMY.digest),
    taxonomy=TAXONOMY,
    complete=False,
    scores_unknown=True,
    floors={"shoe": binary32(0.1)},
    dataset="b" * 64,
    dataset_name="toys",
    created="2026-11-23T17:00:00Z",
)
COLUMNS = ["shoe", "Büchse, große", "unknown"]


def table(rows: list[dict[str, Any]], info: RunInfo = INFO) -> PredictionTable:
    frame = pd.DataFrame(
        {
            "image_id": pd.Series([row["image_id"] for row in rows], dtype="str"),
            "outcome": pd.Series([row.get("outcome", OK) for row in rows], dtype="str"),
            "detail": pd.Series([row.get("detail", "") for row in rows], dtype="str"),
            "latency_ms": np.array([row.get("latency_ms", math.nan) for row in rows], dtype=np.float64),
            "cost_usd": np.array([row.get("cost_usd", 0.0) for row in rows], dtype=np.float64),
            "cached": np.array([row.get("cached", False) for row in rows], dtype=bool),
        }
        | {
            f"score:{name}": np.array([row.get("scores", {}).get(name, MISSING) for row in rows], dtype=np.float32)
            for name in info.columns
        }
    )
    return PredictionTable(frame, info)


SMALL = table(
    [
        {
            "image_id": "a.png",
            "scores": dict(zip(COLUMNS, (0.72, 0.0, 1.0), strict=True)),
            "latency_ms": 1.5,
            "cached": True,
        },
        {"image_id": "NA", "scores": {"shoe": CENSORED, "unknown": 0.25}, "cost_usd": 0.001},
        {"image_id": "001", "outcome": "corrupt", "detail": "bad\nfile, 'é'"},
    ]
)


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "run.parquet"
    write_predictions(SMALL, path)
    back = read_predictions(path)
    assert INFO == back.info
    assert SMALL.scores.tobytes() == back.scores.tobytes()
    assert list(SMALL.predictions()) == list(back.predictions())
    fixed = ["image_id", "outcome", "detail", "latency_ms", "cost_usd", "cached"]
    assert [*fixed, "score:shoe", "score:Büchse, große", "score:unknown"] == list(back.frame.columns)
    for name in fixed:
        pd.testing.assert_series_equal(SMALL.frame[name], back.frame[name])
    assert [path] == list(path.parent.iterdir())


def test_pandas_alone_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    write_predictions(SMALL, path)
    frame = pd.read_parquet(path)
    assert ["a.png", "NA", "001"] == list(frame["image_id"])
    assert [np.float32(0.72), np.float32(-np.inf)] == list(frame["score:shoe"][:2])
    assert frame["score:shoe"].dtype == np.float32
    assert np.isnan(frame["score:shoe"][2])


def test_what_the_run_was_stands_in_the_file(tmp_path: Path) -> None:
    write_predictions(SMALL, tmp_path / "run.parquet")
    told = json.loads(pq.read_schema(tmp_path / "run.parquet").metadata[b"workbench"])
    assert "toy-1" == told["origin"]["model_version"]
    assert {"shoe": 0.1} == told["floors"]
    assert ["shoe", "Büchse, große"] == told["taxonomy"]["categories"]


def test_scores_are_float32_in_taxonomy_order() -> None:
    assert SMALL.scores.dtype == np.float32
    np.testing.assert_array_equal(np.float32([[0.72, 0], [-np.inf, np.nan], [np.nan, np.nan]]), SMALL.scores)
    unknown = SMALL.unknown_scores
    assert unknown is not None
    np.testing.assert_array_equal(np.float32([1, 0.25, np.nan]), unknown)


def test_without_a_score_for_unknown_there_is_none() -> None:
    assert table([], replace(INFO, scores_unknown=False)).unknown_scores is None


def test_rows_as_predictions() -> None:
    first, second, third = SMALL.predictions()
    assert Prediction("a.png", INFO.origin, OK, dict(zip(COLUMNS, (binary32(0.72), 0.0, 1.0), strict=True))) == first
    # an absent key is MISSING, so that it cannot be taken for a number
    assert {"shoe": CENSORED, "unknown": 0.25} == second.scores
    assert ("corrupt", {}, "bad\nfile, 'é'") == (third.outcome, third.scores, third.detail)


def test_scores_count_only_where_the_outcome_is_ok() -> None:
    (row,) = table([{"image_id": "a", "outcome": "refusal", "scores": {"shoe": 0.5}}]).predictions()
    assert {} == row.scores


def test_an_empty_table_comes_back(tmp_path: Path) -> None:
    write_predictions(table([]), tmp_path / "run.parquet")
    back = read_predictions(tmp_path / "run.parquet")
    assert 0 == len(back)
    assert (0, 2) == back.scores.shape


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "image_id": st.text(min_size=1),
                "detail": st.text(),
                "scores": st.fixed_dictionaries(
                    {},
                    optional=dict.fromkeys(COLUMNS[1:], st.floats(0, 1, width=32) | st.just(CENSORED))
                    | {"shoe": st.floats(binary32(0.1), 1, width=32) | st.just(CENSORED)},
                ),
            }
        ),
        max_size=5,
        unique_by=lambda row: row["image_id"],
    )
)
def test_any_text_and_any_score_survive_the_file(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write_predictions(table(rows), tmp_path / "run.parquet")
    expected = [(row["image_id"], row["detail"], row["scores"]) for row in rows]
    read = read_predictions(tmp_path / "run.parquet").predictions()
    assert expected == [(row.image_id, row.detail, dict(row.scores)) for row in read]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    write_predictions(SMALL, path)
    before = path.read_bytes()
    broken = replace(SMALL, frame=SMALL.frame.assign(latency_ms="soon"))
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        write_predictions(broken, path)
    assert before == path.read_bytes()


def rewrite(path: Path, change: Any) -> None:
    write_predictions(SMALL, path)
    pq.write_table(change(pq.read_table(path)), path)


def with_metadata(text: str) -> Any:
    return lambda arrow: arrow.replace_schema_metadata({b"workbench": text.encode()})


def with_column(column: str, values: list[Any], kind: pa.DataType) -> Any:
    def change(arrow: pa.Table) -> pa.Table:
        place = arrow.column_names.index(column)
        return arrow.set_column(place, pa.field(column, kind), pa.array(values, kind))

    return change


def with_scores(column: str, values: list[float]) -> Any:
    return with_column(column, values, pa.float32())


def of_another_taxonomy(arrow: pa.Table) -> pa.Table:
    told = arrow.schema.metadata[b"workbench"].decode().replace('"shoe"', '"boot"')
    names = [name.replace("shoe", "boot") for name in arrow.column_names]
    return arrow.rename_columns(names).replace_schema_metadata({b"workbench": told.encode()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrow: arrow.replace_schema_metadata(None), "no run metadata; .* `workbench classify`"),
        (with_metadata("{"), "run metadata: .*not JSON"),
        (with_metadata('{"origin": NaN}'), "run metadata: /origin: NaN"),
        (with_metadata("{}"), "run metadata: /schema_version: this field is missing"),
        (lambda arrow: arrow.drop_columns(["score:shoe"]), r"missing \['score:shoe'\], extra \[\]"),
        (lambda arrow: arrow.append_column("score:boot", arrow["score:shoe"]), r"missing \[\], extra \['score:boot'\]"),
        (with_scores("score:unknown", [0.5, 1.5, np.nan]), r"row 2: score 1.5 of 'unknown' is outside \[0, 1\]"),
        (with_scores("score:unknown", [0.5, np.inf, np.nan]), "row 2: score inf of 'unknown'"),
        (with_scores("score:unknown", [-0.5, 0.5, np.nan]), "row 1: score -0.5 of 'unknown'"),
        (with_scores("score:shoe", [0.5, 0.05, np.nan]), "row 2: score 0.05.* of 'shoe' is below the column's floor"),
        (of_another_taxonomy, "/origin/taxonomy is not the digest"),
        (with_column("score:shoe", [0.5, 0.5, 0.5], pa.float64()), "column 'score:shoe' holds double, not float"),
        (with_column("cached", [1, 0, 1], pa.int8()), "column 'cached' holds int8, not bool"),
        (with_column("detail", ["", None, ""], pa.string()), "column 'detail' has cells without a value"),
        (with_column("outcome", ["ok", "fine", "ok"], pa.string()), "row 2: no outcome is called 'fine'; known: ok, "),
        (with_column("outcome", ["ok", "corrupt", "ok"], pa.string()), "row 2: a score of 'shoe', but .* not ok"),
        (lambda arrow: pa.concat_tables([arrow, arrow.slice(1, 1)]), "image 'NA' has more than one row"),
    ],
)
def test_a_damaged_table_is_refused_with_its_place(tmp_path: Path, change: Any, message: str) -> None:
    path = tmp_path / "run.parquet"
    rewrite(path, change)
    with pytest.raises(RunError, match=message) as caught:
        read_predictions(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"image_id,outcome\na,ok\n"])
def test_what_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.parquet"
    path.write_bytes(content)
    with pytest.raises(RunError, match="cannot be read as a prediction table"):
        read_predictions(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"none\.parquet"):
        read_predictions(tmp_path / "none.parquet")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.parquet"
    write_predictions(SMALL, path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match="cannot be read as a prediction table"):
        read_predictions(path)


def test_reading_needs_pandas_and_pyarrow_only() -> None:
    code = "import sys, workbench.predictions; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert not loaded & {"sklearn", "scipy", "matplotlib", "onnx", "onnxruntime", "PIL", "pydantic", "tqdm", "typer"}
