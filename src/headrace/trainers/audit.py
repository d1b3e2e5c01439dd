"""Audit and skew of served vectors, recomputed from the event log.

The audit asks for value(V, t) at the logged V: equal, or it is a bug. Skew asks what a training set would have seen at
the same (key, t) without knowing V: the share that is equal is a statistic of how far serving lagged behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.features.kernel import kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from headrace.features.point_in_time import ViewHistory
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


def audit(specs: Sequence[Mapping[str, Any]], history: FeatureHistory, vectors: pl.DataFrame) -> Comparison:
    """Recompute each served vector at its logged V and t. ``vectors`` are rows of the log of ``headrace.vectors``.

    A view that was served as ``out_of_range`` is right iff t was older than its clock at V minus its history, and then
    no number was served; one that was served otherwise is right iff t was not.
    """
    if vectors.is_empty():
        return Comparison(0, 0)
    at_us, claimed = _at_us(vectors), _out_of_range(vectors, specs)
    misjudged = {
        spec["view"]: claimed[spec["view"]] != pl.Series(view.out_of_range(at_us, served))
        for spec, view, served in _served(specs, history, vectors)
    }
    offsets = vectors.get_column("offsets").to_list()
    found = _compare(specs, history, vectors, offsets, lambda view, differ: differ | misjudged[view])
    return replace(found, out_of_range=int(pl.DataFrame(claimed).select(pl.any_horizontal(pl.all()).sum()).item()))


def skew(specs: Sequence[Mapping[str, Any]], history: FeatureHistory, vectors: pl.DataFrame) -> Comparison:
    """Recompute each served vector from what was available at its t minus the views' delays.

    Where that is the very V that was logged the audit has compared already; only the others are worked out again.
    """
    moved = np.zeros(vectors.height, bool)
    for behind in _behind(specs, history, vectors):
        moved |= (behind != 0).any(axis=1)
    others = vectors.filter(pl.Series(moved))
    unknown = _out_of_range(others, specs)
    found = _compare(specs, history, others, None, lambda view, differ: differ & ~unknown[view])
    return replace(found, checked=vectors.height)


def lag_records(specs: Sequence[Mapping[str, Any]], history: FeatureHistory, vectors: pl.DataFrame) -> dict[str, float]:
    """Quantiles of how many records a served V was behind (above 0) or ahead of what was available at its t."""
    behind = np.concatenate([one.sum(axis=1) for one in _behind(specs, history, vectors)])
    return {f"p{q}": float(np.quantile(behind, q / 100)) for q in (1, 50, 90, 99)} if len(behind) else {}


def _behind(
    specs: Sequence[Mapping[str, Any]], history: FeatureHistory, vectors: pl.DataFrame
) -> Iterator[NDArray[np.int64]]:
    """A view after the other: by how many records each served V was behind, a row a vector, a column a source."""
    at_us = _at_us(vectors)
    for spec, view, served in _served(specs, history, vectors):
        yield view.known_at(at_us, spec["delay_us"]) - served


def _served(
    specs: Sequence[Mapping[str, Any]], history: FeatureHistory, vectors: pl.DataFrame
) -> Iterator[tuple[Mapping[str, Any], ViewHistory, NDArray[np.int64]]]:
    """Each view with the V that was served, a row a vector, a column a source."""
    decode = msgspec.json.Decoder(dict[str, dict[str, int]]).decode
    logged = [decode(text) for text in vectors.get_column("offsets").to_list()]
    for spec in specs:
        view = history.view(spec)
        names = [source.text for source in view.sources]
        own = [found.get(spec["view"], {}) for found in logged]
        served = np.array([[offsets.get(name, 0) for name in names] for offsets in own], np.int64)
        yield spec, view, served.reshape(len(own), len(names))


def _at_us(vectors: pl.DataFrame) -> NDArray[np.int64]:
    return vectors.get_column("served_at").dt.epoch("us").to_numpy()


def _compare(
    specs: Sequence[Mapping[str, Any]],
    history: FeatureHistory,
    vectors: pl.DataFrame,
    offsets: list[str | None] | None,
    judge: Callable[[str, pl.Series], pl.Series],
) -> Comparison:
    """``judge`` says, of a view and of where a column of it differs, where that column is wrong."""
    if vectors.is_empty():
        return Comparison(0, 0)
    keys = vectors.get_column("request").str.json_decode(pl.Struct(_key_schema(specs))).struct.unnest()
    recomputed = history.features(keys, _at_us(vectors), offsets)
    served = vectors.select(pl.col("values").list.to_struct(fields=recomputed.columns)).unnest("values")
    wrong = pl.DataFrame(
        {
            name: judge(view, _differ(recomputed.get_column(name), served.get_column(name), exact=exact))
            for name, view, exact in _columns(specs)
        }
    )
    rows = wrong.select(pl.any_horizontal(pl.all())).to_series()
    return Comparison(
        vectors.height,
        int(rows.sum()),
        {name: count for name, count in wrong.sum().row(0, named=True).items() if count},
        _examples(vectors, recomputed, served, wrong, rows),
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
