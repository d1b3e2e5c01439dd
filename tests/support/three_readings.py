"""One step over many rows: the same in Polars, in numpy and in plain Python."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import polars as pl

from headrace.features.definitions.expression_kinds import kind
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.masked_column import column
from tests.support.plain_steps import STEPS
from tests.support.random_expressions import EPOCH, TYPES


def all_alike(tree: Any, kinds: dict[str, str], rows: list[tuple[Any, ...]]) -> None:
    """The tree has the plain values and the kind that it says, in Polars and in numpy."""
    wanted = [
        None if None in row else STEPS[tree[0]](*row, *tree[1 + len(kinds) :])
        for row in (alike(row, kinds) if tree[0] in {"min_of", "max_of"} else row for row in rows)
    ]
    frame = pl.DataFrame(rows, schema={name: TYPES[of] for name, of in kinds.items()}, orient="row", strict=True)
    in_polars = frame.select(to_polars(tree).alias("found")).get_column("found")
    table = {name: column([row[place] for row in rows], of) for place, (name, of) in enumerate(kinds.items())}
    in_numpy = to_numpy(tree, table, len(rows))
    of = kind(tree, kinds)
    assert in_polars.dtype == {**TYPES, "date": pl.Date()}[of]
    assert in_numpy.values.dtype == {"int": "i8", "float": "f8", "bool": "?", "str": "O", "date": "i8"}[of]
    if of == "float":  # the sum of an empty list is 0.0, if its items are doubles
        wanted = [None if value is None else float(value) for value in wanted]
    numbers = in_numpy.to_list()
    if of == "date":
        numbers = [None if us is None else (EPOCH + timedelta(microseconds=us)).date() for us in numbers]
    for row, plain, *found in zip(rows, wanted, in_polars.to_list(), numbers, strict=True):
        assert [repr(plain)] * 2 == [*map(repr, found)], (tree, row)
    one_by_one = [frame[place].select(to_polars(tree).alias("x")).item() for place in range(0, len(rows), 7)]
    assert [*map(repr, one_by_one)] == [*map(repr, wanted[::7])]


def alike(row: tuple[Any, ...], kinds: dict[str, str]) -> tuple[Any, ...]:
    is_float = "float" in kinds.values()
    return tuple(float(value) if is_float and value is not None else value for value in row)
