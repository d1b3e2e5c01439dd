"""Audit and skew of served vectors, recomputed from the event log.

The audit asks for value(V, t) at the logged V: equal, or it is a bug. Skew asks what a training set would have seen at
the same (key, t) without knowing V: the share that is equal is a statistic of how far serving lagged behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.features.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from headrace.features.training import FeatureHistory

_KINDS = {"str": pl.String(), "int": pl.Int64()}
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Comparison:
    """Vectors compared: how many, in how many some value differs, by column, and a few examples.

    ``out_of_range``: how many were served without the values of a view, as their t was too old for it.
    """

    checked: int
    different: int
    by_column: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Any]] = ()
    out_of_range: int = 0


class Served:
    """Served vectors, rows of the log of ``headrace.vectors``, with the history of the views that they came from."""

    def __init__(self, specs: Sequence[Mapping[str, Any]], history: FeatureHistory, vectors: pl.DataFrame) -> None:
        self.specs, self.history, self.vectors = specs, history, vectors

    @cached_property
    def at_us(self) -> NDArray[np.int64]:
        """The t of each vector."""
        return self.vectors.get_column("served_at").dt.epoch("us").to_numpy()

    @cached_property
    def offsets(self) -> list[NDArray[np.int64]]:
        """For each view the V that was served, a row a vector, a column a source."""
        decode = msgspec.json.Decoder(dict[str, dict[str, int]]).decode
        logged = [decode(text) for text in self.vectors.get_column("offsets").to_list()]
        return [self._of_view(spec, [found.get(spec["view"], {}) for found in logged]) for spec in self.specs]

    def _of_view(self, spec: Mapping[str, Any], own: Sequence[Mapping[str, int]]) -> NDArray[np.int64]:
        columns = [[offsets.get(source.text, 0) for offsets in own] for source in self.history.view(spec).sources]
        return np.array(columns, np.int64).reshape(len(columns), len(own)).T

    @cached_property
    def behind(self) -> list[NDArray[np.int64]]:
        """For each view by how many records each V was behind what was available, shaped as :attr:`offsets`."""
        return [
            self.history.view(spec).known_at(self.at_us, spec["delay_us"]) - offsets
            for spec, offsets in zip(self.specs, self.offsets, strict=True)
        ]


def audit(served: Served) -> Comparison:
    """Recompute each served vector at its logged V and t.

    A view that was served as ``out_of_range`` is right iff t was older than its clock at V minus its history, and then
    no number was served; one that was served otherwise is right iff t was not.
    """
    if served.vectors.is_empty():
        return Comparison(0, 0)
    claimed = _out_of_range(served.vectors, served.specs)
    misjudged = {
        spec["view"]: claimed[spec["view"]] != pl.Series(served.history.view(spec).out_of_range(served.at_us, offsets))
        for spec, offsets in zip(served.specs, served.offsets, strict=True)
    }
    logged = served.vectors.get_column("offsets").to_list()
    found = _compare(served, logged, lambda view, differ: differ | misjudged[view])
    return replace(found, out_of_range=int(pl.DataFrame(claimed).select(pl.any_horizontal(pl.all()).sum()).item()))


def skew(served: Served) -> Comparison:
    """Recompute each served vector from what was available at its t minus the views' delays.

    Where that is the very V that was logged the audit has compared already; only the others are worked out again.
    """
    moved = np.zeros(served.vectors.height, bool)
    for behind in served.behind:
        moved |= (behind != 0).any(axis=1)
    others = Served(served.specs, served.history, served.vectors.filter(pl.Series(moved)))
    unknown = _out_of_range(others.vectors, served.specs)
    found = _compare(others, None, lambda view, differ: differ & ~unknown[view])
    return replace(found, checked=served.vectors.height)


def lag_records(served: Served) -> dict[str, float]:
    """Quantiles of how many records a served V was behind (above 0) or ahead of what was available at its t."""
    behind = np.concatenate([of_view.sum(axis=1) for of_view in served.behind])
    return {f"p{q}": float(np.quantile(behind, q / 100)) for q in (1, 50, 90, 99)} if len(behind) else {}


def _compare(
    served: Served, logged: list[str | None] | None, judge: Callable[[str, pl.Series], pl.Series]
) -> Comparison:
    """``judge`` says, of a view and of where a column of it differs, where that column is wrong."""
    vectors = served.vectors
    if vectors.is_empty():
        return Comparison(0, 0)
    keys = vectors.get_column("request").str.json_decode(pl.Struct(_key_schema(served.specs))).struct.unnest()
    recomputed = served.history.features(keys, served.at_us, logged)
    values = vectors.select(pl.col("values").list.to_struct(fields=recomputed.columns)).unnest("values")
    wrong = pl.DataFrame(
        {
            name: judge(view, _differ(recomputed.get_column(name), values.get_column(name), exact=exact))
            for name, view, exact in _columns(served.specs)
        }
    )
    rows = wrong.select(pl.any_horizontal(pl.all())).to_series()
    return Comparison(
        vectors.height,
        int(rows.sum()),
        {name: count for name, count in wrong.sum().row(0, named=True).items() if count},
        _examples(vectors, recomputed, values, wrong, rows),
    )


def _key_schema(specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {name: _KINDS[kind] for spec in specs for name, kind in spec["entity"]["keys"]}


def _columns(specs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, bool]]:
    """Column, view, and whether it must be equal to the bit; sums and means of floats are in a tolerance."""
    return [
        (column, spec["view"], output.exact)
        for spec in specs
        for compiled in [kernel(spec)]
        for column, output in zip(
            compiled.columns, [o for o in compiled.outputs for _ in compiled.windows], strict=True
        )
    ]


def _differ(one: pl.Series, other: pl.Series, *, exact: bool) -> pl.Series:
    left, right = one.cast(pl.Float64), other.cast(pl.Float64)
    bound = 0.0 if exact else _TOLERANCE
    far = (left - right).abs() > bound * pl.Series(np.maximum(1.0, np.abs(left.fill_null(0.0).to_numpy())))
    return (far.fill_null(value=False)) | (left.is_null() != right.is_null())


def _out_of_range(vectors: pl.DataFrame, specs: Sequence[Mapping[str, Any]]) -> dict[str, pl.Series]:
    """Views that said that they had no value, as t was too old."""
    schema = pl.Struct({spec["view"]: pl.String() for spec in specs})
    statuses = vectors.get_column("statuses").str.json_decode(schema).struct.unnest()
    return {name: (statuses.get_column(name) == "out_of_range").fill_null(value=False) for name in statuses.columns}


def _examples(
    vectors: pl.DataFrame, recomputed: pl.DataFrame, served: pl.DataFrame, wrong: pl.DataFrame, rows: pl.Series
) -> list[dict[str, Any]]:
    found = []
    for row in np.flatnonzero(rows.to_numpy())[:5].tolist():
        columns = [name for name in wrong.columns if wrong.get_column(name)[row]]
        found.append(
            {
                "key": vectors.get_column("key")[row],
                "served_at": str(vectors.get_column("served_at")[row]),
                "values": {
                    name: [served.get_column(name)[row], recomputed.get_column(name)[row]] for name in columns[:5]
                },
            }
        )
    return found
