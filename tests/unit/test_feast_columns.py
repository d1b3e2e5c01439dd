"""Columns in Feast's words, against a plain loop over the rows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.base.times import utc_datetime
from headrace.features.online.value_columns import lists_of
from headrace.serving.features import FeatureVectors, Status, ViewAnswer
from headrace.serving.http.feast_columns import FeastRows, of_key

NOW_US = 1_577_836_800_000_000
UNITS_US = (1, 1_000, 10_000, 1_000_000)
EPOCH = "1970-01-01T00:00:00Z"
WORDS = {Status.MISSING: "NOT_FOUND", Status.STALE: "OUTSIDE_MAX_AGE", Status.PRESENT: None}

ages = st.one_of(st.just(-1), st.tuples(st.integers(0, 10**6), st.sampled_from(UNITS_US)).map(math.prod))
value = st.one_of(st.floats(), st.integers(-(2**53), 2**53).map(float), st.just(1e308))
rows = st.lists(st.tuples(value, st.booleans(), st.sampled_from([*WORDS]), ages), max_size=6)


def answered(column: Any) -> dict[str, Any]:
    """A column as a client reads it."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(column))
    return found


def written(age_us: int) -> str:
    if age_us < 0:
        return EPOCH
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW_US - age_us)
    micros = moment.microsecond
    fraction = "" if not micros else f".{micros // 1_000:03}" if micros % 1_000 == 0 else f".{micros:06}"
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def native(number: float) -> float | str:
    return number if math.isfinite(number) else {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}[str(number)]


@given(rows)
def test_a_column_equals_its_rows_one_by_one(rows: list[tuple[float, bool, Status, int]]) -> None:
    there = np.array([has for _, has, _, _ in rows], bool)
    values = np.array([number for number, _, _, _ in rows], float), there
    states, ages_us = [state for _, _, state, _ in rows], np.array([age for *_, age in rows], np.int64)
    answer = ViewAnswer("view", "1", ["x"], [values], states, ages_us, [{}] * len(rows))
    vectors = FeatureVectors(len(rows), utc_datetime(NOW_US), [answer])
    found = answered(FeastRows.of_view(vectors, answer).vector(lists_of([values], 0)))
    assert found == {
        "values": [native(number) if has else None for number, has, _, _ in rows],
        "statuses": [WORDS[state] or ("PRESENT" if has else "NULL_VALUE") for _, has, state, _ in rows],
        "event_timestamps": [written(age) for *_, age in rows],
    }


@pytest.mark.parametrize("kind", ["int64", "bool"])
def test_a_feature_made_on_demand_has_no_time_and_its_value_decides(kind: str) -> None:
    values = np.array([1, 0], kind)
    assert answered(FeastRows.made(2).vector((values.tolist(), [True, False]))) == {
        "values": [values.tolist()[0], None],
        "statuses": ["PRESENT", "NULL_VALUE"],
        "event_timestamps": [EPOCH, EPOCH],
    }


def test_a_join_key_is_as_it_was_given() -> None:
    assert answered(of_key(["a", None])) == {
        "values": ["a", None],
        "statuses": ["PRESENT", "PRESENT"],
        "event_timestamps": [EPOCH, EPOCH],
    }
