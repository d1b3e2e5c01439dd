"""The columns of one view, cut out of the values of many views when they are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from headrace.features.kernel.python_values import python_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.features.kernel.states import Values


ColumnLists = tuple[list[Any], list[bool]]
"""A column as Python lists: its values (any value where there is none), and whether each is present."""


class ValueBlock:
    """The values of one output, with one item for each query and window; the windows of a query are neighbours."""

    def __init__(self, values: np.ndarray, present: np.ndarray) -> None:
        self.values, self.present = values, present

    @cached_property
    def lists(self) -> ColumnLists:
        """The values as lists, made once for all columns: with few rows this takes longer than everything else."""
        return python_list(self.values), self.present.tolist()


class ValueColumns(Sequence["Values"]):
    """The columns of a view; each has one item for each row.

    ``blocks`` have one output each; ``rows`` are the view's queries in them.
    """

    def __init__(self, blocks: Sequence[ValueBlock], windows: int, rows: range | np.ndarray) -> None:
        self._blocks, self._windows, self._rows = blocks, windows, rows
        self._is_absent = False

    def of_rows(self, which: np.ndarray) -> ValueColumns:
        """Return the same columns with other rows: ``which`` of the present rows each one is."""
        columns = ValueColumns(self._blocks, self._windows, np.asarray(self._rows)[which])
        columns._is_absent = self._is_absent
        return columns

    def absent(self) -> ValueColumns:
        """Return the same columns, with no value present."""
        columns = ValueColumns(self._blocks, self._windows, self._rows)
        columns._is_absent = True
        return columns

    def __len__(self) -> int:
        return len(self._blocks) * self._windows

    def __iter__(self) -> Iterator[Values]:
        return map(self._column, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Values: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Values]: ...

    def __getitem__(self, index: int | slice) -> Values | Sequence[Values]:
        if isinstance(index, slice):
            return [self._column(column) for column in range(len(self))[index]]
        return self._column(range(len(self))[index])

    def _column(self, column: int) -> Values:
        number, window = divmod(column, self._windows)
        block, own = self._blocks[number], self._of_window(window)
        found = block.values[own]
        return found, np.zeros(len(found), bool) if self._is_absent else block.present[own]

    def lists(self, column: int) -> ColumnLists:
        """Return a column as lists."""
        number, window = divmod(column, self._windows)
        values, present = self._blocks[number].lists
        own = self._of_window(window)
        if isinstance(own, slice):
            values, present = values[own], present[own]
        else:
            places = own.tolist()
            values, present = [values[place] for place in places], [present[place] for place in places]
        return values, [False] * len(values) if self._is_absent else present

    def _of_window(self, window: int) -> slice | np.ndarray:
        """Return the places of a window's items in each block."""
        rows, windows = self._rows, self._windows
        if isinstance(rows, range):
            return slice(rows.start * windows + window, rows.stop * windows, windows)
        return rows * windows + window


def lists_of(columns: Sequence[Values], column: int) -> ColumnLists:
    """Return a column as lists, from any kind of columns."""
    if isinstance(columns, ValueColumns):
        return columns.lists(column)
    values, present = columns[column]
    return python_list(values), present.tolist()
