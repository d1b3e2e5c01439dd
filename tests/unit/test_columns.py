"""Columns that are cut out of what many views share."""

from __future__ import annotations

import numpy as np

from headrace.features.online.value_columns import ValueBlock, ValueColumns, lists_of

COUNTS = ValueBlock(np.array([10, 11, 20, 21, 30, 31]), np.array([True, False, True, True, False, True]))
MEANS = ValueBlock(np.array([1.0, 1.5, 2.0, 2.5, 3.0, 3.5]), np.ones(6, bool))
"""Of three queries in two windows."""


def lists(columns: ValueColumns) -> list[tuple[list[float], list[bool]]]:
    """In both ways, which have to say the same."""
    found = [(values.tolist(), present.tolist()) for values, present in columns]
    assert [columns.lists(column) for column in range(len(columns))] == found
    assert [lists_of(columns, column) for column in range(len(columns))] == found
    assert [lists_of([*columns], column) for column in range(len(columns))] == found
    return found


def test_evaluated_columns_are_ordered_by_feature_then_window() -> None:
    columns = ValueColumns([COUNTS, MEANS], 2, range(1, 3))
    assert lists(columns) == [
        ([20, 30], [True, False]),
        ([21, 31], [True, True]),
        ([2.0, 3.0], [True, True]),
        ([2.5, 3.5], [True, True]),
    ]
    assert len(columns) == 4


def test_evaluated_columns_may_be_read_by_any_query() -> None:
    rows = ValueColumns([COUNTS], 2, range(1, 3)).of_rows(np.array([1, 1, 0]))
    assert lists(rows) == [([30, 30, 20], [False, False, True]), ([31, 31, 21], [True, True, True])]


def test_no_value_is_present_when_the_time_is_unknown() -> None:
    absent = ValueColumns([COUNTS], 2, range(1, 3)).absent()
    assert lists(absent) == [([20, 30], [False, False]), ([21, 31], [False, False])]
    assert lists(absent.of_rows(np.array([1]))) == [([30], [False]), ([31], [False])]


def test_evaluated_columns_are_a_sequence() -> None:
    columns = ValueColumns([COUNTS, MEANS], 2, range(3))
    assert [columns[place][0].tolist() for place in (0, -1)] == [[10, 20, 30], [1.5, 2.5, 3.5]]
    assert [values.tolist() for values, _ in columns[1:3]] == [[11, 21, 31], [1.0, 2.0, 3.0]]
