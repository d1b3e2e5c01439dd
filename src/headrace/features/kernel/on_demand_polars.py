"""On-demand features in Polars, for training sets and audits. They use the same expressions as a look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.bus.nested_columns import flat
from headrace.errors import DefinitionError
from headrace.features.definitions.expression_tree import NOW
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.on_demand import on_demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from headrace.features.definitions.service_spec import RequestField, ServiceSpec
    from headrace.features.kernel.on_demand import OnDemandFeatures

    Times = Sequence[int] | np.ndarray

TYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
}


def with_on_demand(
    service: ServiceSpec, found: pl.DataFrame, rows: pl.DataFrame, at_us: Times | None = None
) -> pl.DataFrame:
    """Return the views' columns that were ``found``, and after them the service's on-demand features.

    ``rows`` has the values of the requests, and ``at_us`` the t of each, for features that read ``now()``. Raises
    DefinitionError if a value is missing or has another type.
    """
    return found.hstack(on_demand_columns(on_demand(service.on_demand), found, rows, at_us).get_columns())


def on_demand_columns(
    compiled: OnDemandFeatures, found: pl.DataFrame, rows: pl.DataFrame, at_us: Times | None = None
) -> pl.DataFrame:
    """Return the on-demand columns alone: see :func:`with_on_demand`."""
    if not compiled.features:
        return pl.DataFrame()
    given = request_columns(compiled.request, rows).get_columns()
    table = pl.DataFrame([*given, *(_finite(found.get_column(name)) for name in compiled.reads)])
    if compiled.reads_now:
        table = table.with_columns(pl.Series(NOW, at_us, pl.Int64).cast(TYPES["datetime"]))
    for feature in compiled.features:
        value = to_polars(feature.value).cast(TYPES[feature.kind]).alias(feature.name)
        table = table.with_columns(value)
    return table.select(compiled.names)


def request_columns(request: Sequence[RequestField], rows: pl.DataFrame) -> pl.DataFrame:
    """Return the values of the requests as expressions take them; a time without a zone is UTC.

    Raises DefinitionError for a value that is missing or has another type.
    """
    rows = flat(rows)
    return pl.DataFrame([_request_column(field, rows) for field in request])


def _request_column(field: RequestField, rows: pl.DataFrame) -> pl.Series:
    name, kind = field.name, field.kind
    if name not in rows.columns:
        message = f"the rows lack the request's value {name!r} ({kind}); they have {rows.columns}"
        raise DefinitionError(message)
    column = rows.get_column(name)
    if column.dtype != pl.Null and not _field_fits(column.dtype, field):
        wanted = field.expression_kind
        message = (
            f"the rows have the request's value {name!r} as {column.dtype}; the service has it as {wanted}: cast it"
        )
        raise DefinitionError(message)
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None:
        column = column.dt.replace_time_zone("UTC")
    column = _finite(column.cast(column_type(field)))
    if column.null_count() and not field.nullable:
        row = int(column.is_null().arg_max() or 0)
        message = f"the request's value {name!r} is no {kind} in {column.null_count():,} rows, the first is row {row:,}"
        raise DefinitionError(message)
    return column


def column_type(field: RequestField) -> pl.DataType:
    """Return the Polars type of a value of the request."""
    return pl.List(TYPES[field.kind]) if field.many else TYPES[field.kind]


def _field_fits(dtype: pl.DataType, field: RequestField) -> bool:
    if not field.many:
        return _fits(dtype, field.kind)
    return isinstance(dtype, pl.List | pl.Array) and (dtype.inner == pl.Null or _fits(dtype.inner, field.kind))  # type: ignore[arg-type]


def _fits(dtype: pl.DataType, kind: str) -> bool:
    match kind:
        case "int":
            return dtype.is_integer()
        case "float":
            return dtype.is_float() or dtype.is_integer()
        case "str":
            return isinstance(dtype, pl.String | pl.Categorical | pl.Enum)
    return isinstance(dtype, pl.Datetime if kind == "datetime" else pl.Boolean)


def _finite(column: pl.Series) -> pl.Series:
    if isinstance(column.dtype, pl.Array):  # a vector: expressions take it as a list
        column = column.arr.to_list()
    if column.dtype == pl.List(pl.Float64):
        return column.list.eval(pl.when(pl.element().is_finite()).then(pl.element()))
    return column.set(~column.is_finite(), None) if column.dtype.is_float() else column
