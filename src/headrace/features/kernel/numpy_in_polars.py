"""Steps of numpy inside Polars' expressions, where Polars itself would give other values in the last bit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.features.definitions.expression_tree import columns, trees_of
from headrace.features.kernel.expression_numpy import numpy_step, to_numpy
from headrace.features.kernel.masked_column import DAY, MaskedColumn, column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.expression_tree import ExpressionTree

_TYPES: dict[str, pl.DataType] = {"i": pl.Int64(), "f": pl.Float64(), "b": pl.Boolean(), "O": pl.String()}
_OF_STEPS: dict[str, pl.DataType] = {
    **dict.fromkeys(("exp", "log", "log1p", "seconds_since", "haversine", "list_mean"), pl.Float64()),
    **dict.fromkeys(("lower", "upper", "slice", "split_part"), pl.String()),
    "bucket": pl.Int64(),
    "list_contains": pl.Boolean(),
    "in_zone": pl.Datetime("us", "UTC"),
}
"""The types of steps that have one alone. Polars asks all others for it, by running them on two rows."""
_ITEMS: dict[Any, str] = {pl.Int64(): "int", pl.Float64(): "float", pl.Boolean(): "bool", pl.String(): "str"}
_OF_CASTS: dict[str, pl.DataType] = {
    "int": pl.Int64(), "float": pl.Float64(), "bool": pl.Boolean(), "str": pl.String(),
}  # fmt: skip


def step_of_numpy(tree: ExpressionTree, arms: list[pl.Expr]) -> pl.Expr:
    """Return a step as a Polars expression over its arms, computed by numpy. Without columns it is a literal."""
    if not columns(tree):
        return _constant(tree)

    def function(given: Sequence[pl.Series]) -> pl.Series:
        rows = max((len(each) for each, arm in zip(given, trees_of(tree), strict=True) if columns(arm)), default=1)
        with np.errstate(all="ignore"):
            found = _series(numpy_step(tree, [_masked(each, rows) for each in given]))
        return found if of is None else found.cast(of)

    of = _OF_CASTS[tree[2]] if tree[0] == "cast" else _OF_STEPS.get(tree[0])
    return pl.map_batches(arms, function, return_dtype=of)


def _constant(tree: ExpressionTree) -> pl.Expr:
    found = _series(to_numpy(tree, {}, 1))
    return pl.lit(found.item(), found.dtype)


def _masked(series: pl.Series, rows: int) -> MaskedColumn:
    if len(series) != rows:  # a literal
        series = series.new_from_index(0, rows)
    present, of = series.is_not_null().to_numpy(), series.dtype
    if isinstance(of, pl.List):
        return column(series.to_list(), f"list({_ITEMS.get(of.inner, 'float')})")
    return MaskedColumn(_values(series), present)


def _values(series: pl.Series) -> np.ndarray:
    of = series.dtype
    if isinstance(of, pl.String | pl.Categorical | pl.Enum):
        found = np.empty(len(series), object)
        found[:] = series.to_list()
        return found
    if of == pl.Null:
        return np.zeros(len(series), np.int64)
    if of == pl.Date:
        return series.to_physical().cast(pl.Int64).fill_null(0).to_numpy() * DAY
    plain = series.to_physical()
    return plain.fill_null(False if of == pl.Boolean else 0).to_numpy()


def _series(column: MaskedColumn) -> pl.Series:
    values = column.values.tolist() if column.values.dtype.kind == "O" else column.values
    made = pl.Series(values, dtype=_TYPES[column.values.dtype.kind], strict=column.values.dtype.kind != "O")
    return made if column.present.all() else made.set(pl.Series(~column.present), None)
