"""The first look at a training set: what it says is what a plain count says, and what leaks is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.data_profile import bars
from headrace.errors import ProjectError, TerminalError
from headrace.trainers.data.profile import BINS, ColumnProfile, profile
from tests.support.orders_model import DAYS, TOML, Shop, day

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

ROWS = 2_000


def table() -> pl.DataFrame:
    rng = np.random.default_rng(5)
    label = rng.random(ROWS) < np.linspace(0.2, 0.4, ROWS)
    times = pl.Series(day(0) + np.arange(ROWS) * 3_600_000_000).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(
        {
            "at": times,
            "label": label,
            "honest": rng.normal(size=ROWS) + 0.5 * label,
            "leak": np.where(label, 1.0, 0.0) + rng.normal(size=ROWS) * 0.1,
            "inverse": -label.astype(float),
            "word": np.where(label, "yes", "no"),
            "id": [f"row-{row}" for row in range(ROWS)],
            "gappy": pl.Series(rng.normal(size=ROWS)).set(pl.Series(np.arange(ROWS) % 4 == 0), None),
            "before": times.dt.offset_by("-1h"),
            "after": pl.select(pl.when(pl.Series(label)).then(times.dt.offset_by("1h"))).to_series(),
            "nothing": pl.Series([None] * ROWS, dtype=pl.Float64),
        }
    )


@pytest.fixture(scope="module")
def columns() -> dict[str, ColumnProfile]:
    return {column.name: column for column in profile(table(), label="label", time="at").columns}


def test_a_profile_has_types_nulls_ranges_and_distributions(columns: dict[str, ColumnProfile]) -> None:
    honest, frame = columns["honest"], table()
    assert (honest.type, honest.nulls, honest.distinct) == ("Float64", 0.0, ROWS)
    ends = [frame["honest"].min(), frame["honest"].median(), frame["honest"].max()]
    assert [honest.low, honest.middle, honest.high] == ends
    assert (len(honest.histogram), sum(honest.histogram)) == (BINS, ROWS)
    assert max(honest.histogram) == max(honest.histogram[3:7])
    assert columns["gappy"].nulls == 0.25
    assert sum(columns["gappy"].histogram) == 0.75 * ROWS
    assert (columns["word"].words, columns["word"].distinct) == (["no", "yes"], 2)
    assert columns["word"].histogram == [int((~frame["label"]).sum()), int(frame["label"].sum())]
    assert (columns["nothing"].nulls, columns["nothing"].histogram) == (1.0, [])


def test_a_profile_names_only_the_columns_that_leak_the_label(columns: dict[str, ColumnProfile]) -> None:
    found = profile(table(), label="label", time="at")
    assert {each.column: each.why.split(":")[0].split(" in ")[0] for each in found.suspects} == {
        "leak": "tells the label too well alone",
        "inverse": "tells the label too well alone",
        "word": "tells the label too well alone",
        "after": "lies after at",
    }
    assert columns["honest"].auc is not None
    assert 0.6 < columns["honest"].auc < 0.7
    assert columns["id"].auc == 0.5  # each word is there once: of others nothing is known
    assert (columns["at"].auc, columns["label"].auc, columns["nothing"].auc) == (None, None, None)


@pytest.mark.parametrize("kind", ["number", "word", "whole number"])
def test_leaks_of_a_label_of_any_task_are_named(kind: str) -> None:
    rng = np.random.default_rng(5)
    number = rng.normal(12, 30, ROWS)
    grade = np.digitize(number, [0, 30])
    label = {"number": number, "word": np.array(["early", "late", "lost"])[grade], "whole number": grade}[kind]
    frame = pl.DataFrame({"label": label, "leak": number + rng.normal(size=ROWS), "honest": rng.normal(size=ROWS)})
    found = profile(frame, label="label")
    assert [each.column for each in found.suspects] == ["leak"]
    assert found.label_mean == (None if kind == "word" else pytest.approx(np.mean(label)))
    (honest,) = [each.auc for each in found.columns if each.name == "honest"]
    assert honest is not None
    assert honest < 0.6


def test_a_profile_shows_the_label_over_time() -> None:
    found = profile(table(), label="label", time="at")
    assert len(found.periods) == 20
    assert sum(period.rows for period in found.periods) == ROWS
    shares = [period.label or 0 for period in found.periods]
    assert np.mean(shares[:5]) < 0.3 < np.mean(shares[-5:])
    first = table().filter(pl.col("at") < pl.lit(found.periods[1].begins).str.to_datetime(time_zone="UTC"))
    assert found.periods[0].rows == first.height
    assert found.periods[0].label == pytest.approx(first["label"].mean())
    assert found.label_mean == pytest.approx(table()["label"].mean())


def test_a_profile_of_few_rows_names_no_leaks() -> None:
    assert profile(table()[:0], label="label", time="at").periods == []
    assert profile(table()[:20], label="label").suspects == []


def test_a_profile_has_columns_of_any_type_and_of_one_value() -> None:
    moment = datetime(2023, 11, 14, 12, tzinfo=UTC)
    frame = pl.DataFrame({
        "at": [moment] * 3, "price": [Decimal("1.50")] * 3, "raw": [b"\xff"] * 3, "parts": [[{"name": "a"}]] * 3,
    })  # fmt: skip
    found = {column.name: column for column in profile(frame, time="at").columns}
    assert [found[name].distinct for name in frame.columns] == [1, 1, 0, 0]
    assert [sum(found[name].histogram) for name in ("at", "price")] == [3, 3]


def test_bars_of_a_histogram_scale_with_their_counts() -> None:
    assert bars([0, 1, 50, 100]) == " ▁▅█"
    assert bars([]) == ""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headrace.toml").write_text(TOML)
    return Shop(tmp_path)


def call(*words: str) -> Result:
    return CliRunner().invoke(build(), ["data", "profile", *words])


@pytest.mark.slow
def test_the_profile_command_reads_files_and_streams(project: Shop) -> None:
    told = json.loads(call("orders", "--json").stdout)
    assert (told["rows"], told["time"], told["label"]) == (DAYS * 150, "ordered_at", None)
    assert [column["name"] for column in told["columns"]] == ["order_id", "shop", "amount", "ordered_at"]
    table().write_parquet("rows.parquet")
    told = json.loads(call("rows.parquet", "--label", "label", "--time", "at", "--json").stdout)
    assert {suspect["column"] for suspect in told["suspects"]} == {"leak", "inverse", "word", "after"}
    shown = call("rows.parquet", "--label", "label", "--time", "at").stdout
    assert "2,000 rows; label 'label', mean 0.3" in shown
    assert "suspect: leak tells the label too well alone: AUC 1.000" in shown
    assert isinstance(call("rows.parquet", "--label", "none").exception, TerminalError)
    assert isinstance(call("nobody").exception, ProjectError)


def test_a_training_set_tells_its_own_label_and_time(project: Shop) -> None:
    from headrace import Settings, training_set
    from tests.support.orders_model import model

    made = training_set(model, excluded=[], settings=Settings(event_log="log"))
    made.to_parquet("set.parquet")
    told = json.loads(call("set.parquet", "--json").stdout)
    assert (told["label"], told["time"], told["rows"]) == ("label", "ordered_at", made.manifest.rows)
    assert 0.3 < told["label_mean"] < 0.7
