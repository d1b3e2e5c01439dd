"""Compares served vectors with values that are computed again from the event log.

The audit computes value(V, t) at the logged V: a difference is a bug. Skew computes what a training set would contain
at the same (key, t), without knowing V: the share of equal values says how far serving lagged behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.features.kernel.on_demand import NOTHING
from headrace.features.kernel.on_demand_polars import column_type, on_demand_columns
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.feature_history import OwnRecords
from headrace.features.offline.vector_values import vector_columns
from headrace.trainers.audit.own_events import count_own_events, record_places
from headrace.trainers.audit.tolerance import tolerances

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.kernel.on_demand import OnDemandFeatures
    from headrace.features.offline.feature_history import FeatureHistory, ServedOffsets
    from headrace.trainers.audit.own_events import OwnEvents

_REQUEST = msgspec.json.Decoder(dict[str, Any])
_KINDS: dict[str, pl.DataType] = {"str": pl.String(), "int": pl.Int64()}
_EXAMPLES = 5


@dataclass(frozen=True)
class VectorComparison:
    """The number of compared vectors, the number that differ, the differences by column, and a few examples.

    ``missing`` counts, by column, the differences in which only one side has a value. ``out_of_range`` counts vectors
    that were served without the values of a view because their t was too old for it.
    """

    checked: int
    different: int
    by_column: Mapping[str, int] = field(default_factory=dict)
    examples: Sequence[Mapping[str, Any]] = ()
    out_of_range: int = 0
    missing: Mapping[str, int] = field(default_factory=dict)


class ServedVectorRows:
    """Served vectors (rows of their log) with the history of the views that they came from.

    ``made`` are the on-demand features of their service. ``own`` is the model's rule for the own event, if it has one.
    """

    def __init__(
        self,
        specs: Sequence[ViewSpec],
        history: FeatureHistory,
        vectors: pl.DataFrame,
        made: OnDemandFeatures = NOTHING,
        own: OwnEvents | None = None,
    ) -> None:
        self.specs, self.history, self.vectors, self.made, self.own = specs, history, vectors, made, own

    @cached_property
    def at_us(self) -> NDArray[np.int64]:
        """The t of each vector."""
        return self.vectors.get_column("served_at").dt.epoch("us").to_numpy()

    @property
    def kinds(self) -> dict[str, str]:
        """The kind of each feature column, in order."""
        found = {name: kind for spec in self.specs for name, kind in spec.column_kinds.items()}
        return found | {feature.name: feature.kind for feature in self.made.features}

    @cached_property
    def logged(self) -> ServedOffsets:
        """The V that was served."""
        return self.history.logged(self.vectors.get_column("offsets").to_list())

    @property
    def offsets(self) -> Sequence[NDArray[np.int64]]:
        """The served V of each view: a row a vector, a column a source."""
        return self.logged.offsets

    @cached_property
    def keys(self) -> pl.DataFrame:
        """The join keys of each vector."""
        fields = {key.name: _KINDS[key.kind] for spec in self.specs for key in spec.entity.keys}
        return self.vectors.get_column("request").str.json_decode(pl.Struct(fields)).struct.unnest()

    def only(self, chosen: NDArray[np.bool_]) -> ServedVectorRows:
        """Return the vectors that the mask selects."""
        return ServedVectorRows(self.specs, self.history, self.vectors.filter(pl.Series(chosen)), self.made, self.own)

    @cached_property
    def own_records(self) -> OwnRecords | None:
        """The records of the requests that the vectors were served for, as far as they are known."""
        return None if self.own is None else OwnRecords(self.own.topic, record_places(self.vectors), self.own.rule)

    @property
    def given(self) -> pl.DataFrame:
        """The values of each request that the on-demand features use."""
        found = self.made.given([_REQUEST.decode(text) for text in self.vectors.get_column("request").to_list()])
        fields = self.made.request
        return pl.DataFrame([pl.Series(f.name, found[f.name].to_list(), column_type(f)) for f in fields])

    @property
    def own_events(self) -> dict[str, int]:
        """The number of vectors by what they did with their own record, as :func:`count_own_events` names it."""
        views = [(self.history.view(spec), offsets) for spec, offsets in zip(self.specs, self.offsets, strict=True)]
        return count_own_events(self.own_records, views)

    @cached_property
    def behind(self) -> list[NDArray[np.int64]]:
        """The number of records by which each V was behind what was available, in the shape of :attr:`offsets`."""
        return [
            self.history.view(spec).known_at(self.at_us, spec.delay_us) - offsets
            for spec, offsets in zip(self.specs, self.offsets, strict=True)
        ]


def audit(served: ServedVectorRows) -> VectorComparison:
    """Compute each served vector again at its logged V and t.

    A view that was served as ``out_of_range`` is right if t was older than its clock at V minus its history, and if no
    number was served. A view that was served with a value is right only if t was not.
    """
    if served.vectors.is_empty():
        return VectorComparison(0, 0)
    claimed = _out_of_range(served.vectors, served.specs)
    misjudged = {
        spec.name: claimed[spec.name] != pl.Series(served.history.view(spec).out_of_range(served.at_us, offsets))
        for spec, offsets in zip(served.specs, served.offsets, strict=True)
    }
    found = _compare(served, served.logged, lambda view, differ: differ | misjudged[view])
    return replace(found, out_of_range=int(pl.DataFrame(claimed).select(pl.any_horizontal(pl.all()).sum()).item()))


def skew(served: ServedVectorRows) -> VectorComparison:
    """Compute each served vector again from what was available at its t minus the views' delays.

    If that is the V that was logged, the audit has compared the vector already; only the others are computed again.
    """
    moved = np.zeros(served.vectors.height, bool)
    for behind in served.behind:
        moved |= (behind != 0).any(axis=1)
    others = served.only(moved)
    unknown = _out_of_range(others.vectors, served.specs)
    found = _compare(others, None, lambda view, differ: differ & ~unknown[view])
    return replace(found, checked=served.vectors.height)


def recomputed(served: ServedVectorRows) -> pl.DataFrame:
    """Return all feature columns of the vectors, computed again at their logged V and t."""
    found = served.history.features(served.keys, served.at_us, served.logged, served.own_records)
    return found.hstack(on_demand_columns(served.made, found, served.given, served.at_us).get_columns())


def lags(served: ServedVectorRows) -> NDArray[np.int64]:
    """The number of records by which each V of each view was behind what was available at its t.

    It is below 0 if V was ahead.
    """
    return np.concatenate([of_view.sum(axis=1) for of_view in served.behind])


def lag_records(found: Sequence[NDArray[np.int64]]) -> dict[str, float]:
    """Return quantiles of the :func:`lags` of several parts."""
    behind = np.concatenate(found)
    return {f"p{q}": float(np.quantile(behind, q / 100)) for q in (1, 50, 90, 99)} if len(behind) else {}


def add_comparisons(found: Sequence[VectorComparison]) -> VectorComparison:
    """Return the sum of several comparisons."""
    return VectorComparison(
        sum(one.checked for one in found),
        sum(one.different for one in found),
        _added([one.by_column for one in found]),
        [example for one in found for example in one.examples][:_EXAMPLES],
        sum(one.out_of_range for one in found),
        _added([one.missing for one in found]),
    )


def _added(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = dict.fromkeys(name for of_part in counts for name in of_part)
    return {name: sum(of_part.get(name, 0) for of_part in counts) for name in names}


def _compare(
    served: ServedVectorRows, logged: ServedOffsets | None, judge: Callable[[str, pl.Series], pl.Series]
) -> VectorComparison:
    """Compare the vectors.

    ``judge`` gets a view and where one of its columns differs. It returns where that is wrong.
    """
    vectors = served.vectors
    if vectors.is_empty():
        return VectorComparison(0, 0)
    recomputed = served.history.features(served.keys, served.at_us, logged, served.own_records)
    values = vector_columns(vectors, served.kinds)
    differ = _far(served, logged, recomputed, values)
    wrong = pl.DataFrame({name: judge(view, differ[name]) for name, view in _columns(served.specs)})
    for column in _made(served, recomputed, values, wrong):
        recomputed = recomputed.with_columns(column)
        wrong = wrong.with_columns(_differ(column, values[column.name]))
    one_sided = {name: wrong[name] & (values[name].is_null() != recomputed[name].is_null()) for name in wrong.columns}
    rows = wrong.select(pl.any_horizontal(pl.all())).to_series()
    return VectorComparison(
        vectors.height,
        int(rows.sum()),
        _counts(wrong),
        _examples(vectors, recomputed, values, wrong, rows),
        missing=_counts(pl.DataFrame(one_sided)),
    )


def _made(
    served: ServedVectorRows, recomputed: pl.DataFrame, values: pl.DataFrame, wrong: pl.DataFrame
) -> list[pl.Series]:
    """Compute the on-demand features from the served values, which may differ within their bounds.

    Where a served value is wrong, the recomputed one is used. A log has numbers as floats; recomputed ones have all
    their digits.
    """
    if not served.made.names:
        return []
    inputs = []
    for name in served.made.reads:
        own, logged = recomputed[name], values[name]
        inputs.append(own.zip_with(wrong[name] | ~_differ(own, logged), logged.cast(own.dtype, strict=False)))
    return on_demand_columns(served.made, pl.DataFrame(inputs), served.given, served.at_us).get_columns()


def _counts(found: pl.DataFrame) -> dict[str, int]:
    return {name: count for name, count in found.sum().row(0, named=True).items() if count}


def _columns(specs: Sequence[ViewSpec]) -> list[tuple[str, str]]:
    """Each column with its view."""
    return [(column, spec.name) for spec in specs for column in kernel(spec).columns]


def _far(
    served: ServedVectorRows, logged: ServedOffsets | None, recomputed: pl.DataFrame, values: pl.DataFrame
) -> dict[str, pl.Series]:
    """Return for each column the rows in which it differs from the recomputed one by more than its sums' bound."""
    differ = {name: _differ(recomputed.get_column(name), values.get_column(name)) for name in recomputed.columns}
    for place, spec in enumerate(served.specs):
        names = [name for name in kernel(spec).columns if differ[name].any()]
        rows = np.logical_or.reduce([differ[name].to_numpy() for name in names] or [np.zeros(len(values), bool)])
        if rows.any():
            _forgive(served, spec, rows, _offsets_of(served, logged, place)[rows], (recomputed, values, differ))
    return differ


def _offsets_of(served: ServedVectorRows, logged: ServedOffsets | None, place: int) -> NDArray[np.int64]:
    spec = served.specs[place]
    return served.history.view(spec).known_at(served.at_us, spec.delay_us) if logged is None else logged.offsets[place]


def _forgive(
    served: ServedVectorRows,
    spec: ViewSpec,
    rows: NDArray[np.bool_],
    offsets: NDArray[np.int64],
    found: tuple[pl.DataFrame, pl.DataFrame, dict[str, pl.Series]],
) -> None:
    """Take back differences that lie within the bound, in the rows in which a column of the view differs."""
    recomputed, values, differ = found
    chosen = pl.Series(rows)
    within = tolerances(spec, served.history, served.keys.filter(chosen), served.at_us[rows], offsets)
    squared = {f"{feature.name}_{w.name}" for feature in spec.features if feature.aggregate == "std"
               for w in spec.windows}  # fmt: skip
    for name, bound in within.items():
        power = 2 if name.removeprefix(f"{spec.name}__") in squared else 1
        one, other = (_numbers(frame[name].filter(chosen)) ** power for frame in (recomputed, values))
        is_near = (np.abs(one - other).max(axis=1) <= bound) | np.isinf(
            bound
        )  # else never for a missing value, which is NaN
        still = differ[name].to_numpy().copy()
        still[rows] &= ~is_near
        differ[name] = pl.Series(name, still)


def _numbers(column: pl.Series) -> NDArray[np.float64]:
    """Return a row of numbers for each value: one, or those of a vector; NaN for a missing value."""
    if not isinstance(column.dtype, pl.Array):
        return column.cast(pl.Float64).to_numpy()[:, None]
    found = np.full((len(column), column.dtype.size), np.nan)
    found[column.is_not_null().to_numpy()] = column.drop_nulls().explode().to_numpy().reshape(-1, column.dtype.size)
    return found


def _differ(one: pl.Series, other: pl.Series) -> pl.Series:
    if one.dtype == pl.String or one.dtype.is_temporal() or one.dtype.is_nested():
        return one.ne_missing(other)
    return one.cast(pl.Float64).ne_missing(other.cast(pl.Float64))


def _out_of_range(vectors: pl.DataFrame, specs: Sequence[ViewSpec]) -> dict[str, pl.Series]:
    """Return for each view the rows that were served without a value because t was too old."""
    schema = pl.Struct({spec.name: pl.String() for spec in specs})
    statuses = vectors.get_column("statuses").str.json_decode(schema).struct.unnest()
    return {name: (statuses.get_column(name) == "out_of_range").fill_null(value=False) for name in statuses.columns}


def _examples(
    vectors: pl.DataFrame, recomputed: pl.DataFrame, served: pl.DataFrame, wrong: pl.DataFrame, rows: pl.Series
) -> list[dict[str, Any]]:
    found = []
    for row in np.flatnonzero(rows.to_numpy())[:_EXAMPLES].tolist():
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
