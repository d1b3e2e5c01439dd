"""The audit of features that are vectors: equal within the bound of their sums, or a difference that it names."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import numpy as np
import polars as pl
import pytest

from headrace import Count, Entity, Event, FeatureView, Last, Lifetime, Mean, Stream, Sum, Vector
from headrace.base.times import epoch_us
from headrace.event_log.event_log import EventLog
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.offline.feature_table import FeatureTable
from headrace.models.predictions import logged_values
from headrace.trainers.audit.compare import ServedVectorRows, audit, skew
from headrace.trainers.audit.tolerance import tolerances
from tests.support.orders_model import write

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 1, 1, tzinfo=UTC)


class Viewed(Event):
    """A user looks at something."""

    user: str
    at: datetime
    embedding: Annotated[list[float], Vector(2)] | None


viewed = Stream("viewed", Viewed, event_time="at")
view = FeatureView(
    "u", Entity("user", str), viewed, ["1h", Lifetime()],
    {
        "taste": Mean("embedding", dim=2), "all": Sum("embedding", dim=2), "last": Last("embedding", dim=2),
        "n": Count(),
    },
)  # fmt: skip
VECTORS = [[3.0, -4.0], None, [1e9, 1.0], [-1e9, 1.0]]


@pytest.fixture
def history(tmp_path: Path) -> FeatureHistory:
    log = EventLog(tmp_path)
    write(log, viewed, [Viewed("a", START + timedelta(seconds=n), each) for n, each in enumerate(VECTORS)])
    found = FeatureHistory([view.spec], log)
    found.refresh()
    return found


def served(history: FeatureHistory, **off: float | None) -> ServedVectorRows:
    """A served vector, with one of its numbers off."""
    at_us = np.array([epoch_us(START) + 60_000_000])
    logged = json.dumps({"u": {source.text: 10**6 for source in history.view(view.spec).sources}})
    row = history.features(pl.DataFrame({"user": ["a"]}), at_us, [logged]).row(0, named=True)
    for name, by in off.items():
        row[f"u__{name}"] = None if by is None else [*row[f"u__{name}"][:1], row[f"u__{name}"][1] + by]
    frame = pl.DataFrame(
        {
            "key": ["a"], "served_at": [START + timedelta(seconds=60)], "request": ['{"user":"a"}'],
            "statuses": ['{"u":"present"}'], "offsets": [logged],
            **{name: [value] for name, value in logged_values([*row.values()]).items()},
        }
    )  # fmt: skip
    return ServedVectorRows([view.spec], history, frame)


@pytest.mark.parametrize(
    ("off", "columns"),
    [
        ({}, []),
        ({"all_lifetime": 1.5, "taste_1h": 0.5}, []),  # 1e-9 of 2e9 is 2, and of the mean a third of it
        ({"all_lifetime": 2.5}, ["u__all_lifetime"]),
        ({"taste_lifetime": 1.0}, ["u__taste_lifetime"]),
        ({"last_1h": 1e-9}, ["u__last_1h"]),
        ({"taste_1h": None}, ["u__taste_1h"]),
    ],
)
def test_a_number_of_a_vector_may_be_off_by_the_bound_of_its_sum(
    history: FeatureHistory, off: dict[str, float | None], columns: list[str]
) -> None:
    found = audit(served(history, **off))
    assert (found.checked, list(found.by_column)) == (1, columns)
    assert list(found.missing) == [name for name in columns if None in off.values()]


def test_skew_compares_vectors_as_the_audit_does(history: FeatureHistory) -> None:
    assert skew(served(history)).by_column == {}
    assert list(skew(served(history, last_1h=1.0)).by_column) == ["u__last_1h"]


def test_the_bound_follows_the_largest_number_of_each_vector(history: FeatureHistory) -> None:
    at_us, keys = np.array([epoch_us(START) + 60_000_000]), pl.DataFrame({"user": ["a"]})
    found = tolerances(view.spec, history, keys, at_us, np.array([[4]]))
    assert {name.removeprefix("u__"): float(each[0]) for name, each in found.items()} == pytest.approx(
        {f"{name}_{w}": 2.000000004 / n for name, n in (("taste", 3), ("all", 1)) for w in ("1h", "lifetime")}
    )


def test_a_table_of_features_has_vectors_as_lists(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events")
    later = [Viewed("b", START + timedelta(days=2), [0.0, 0.0])]
    write(log, viewed, [Viewed("a", START + timedelta(seconds=10), VECTORS[0]), *later])
    table = FeatureTable(view.spec, log, str(tmp_path / "features"))
    assert table.update() > 0
    found = pl.read_delta(table.path).filter(pl.col("user") == "a")
    assert found["u__last_lifetime"].to_list() == [[3.0, -4.0]]
