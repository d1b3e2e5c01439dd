"""On-demand features in Polars, for training sets and audits. They use the same expressions as a look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.bus.nested_columns import flat
from headrace.errors import DefinitionError
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.on_demand import on_demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.service_spec import RequestField, ServiceSpec
    from headrace.features.kernel.on_demand import OnDemandFeatures

TYPES: dict[str, pl.DataType] = {
    "int": pl.Int64(),
    "float": pl.Float64(),
    "bool": pl.Boolean(),
    "str": pl.String(),
    "datetime": pl.Datetime("us", "UTC"),
}


def with_on_demand(service: ServiceSpec, found: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the views' columns that were ``found``, and after them the service's on-demand features.

    ``rows`` has the values of the requests. Raises DefinitionError if a value is missing or has another type.
    """
    return found.hstack(on_demand_columns(on_demand(service.on_demand), found, rows).get_columns())


def on_demand_columns(compiled: OnDemandFeatures, found: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the on-demand columns alone: see :func:`with_on_demand`."""
    if not compiled.features:
        return pl.DataFrame()
    given = request_columns(compiled.request, rows).get_columns()
    table = pl.DataFrame([*given, *(_finite(found.get_column(name)) for name in compiled.reads)])
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
    if column.dtype != pl.Null and not _fits(column.dtype, kind):
        message = f"the rows have the request's value {name!r} as {column.dtype}; the service has it as {kind}: cast it"
        raise DefinitionError(message)
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is None:
        column = column.dt.replace_time_zone("UTC")
    column = _finite(column.cast(TYPES[kind]))
    if column.null_count() and not field.nullable:
        row = int(column.is_null().arg_max() or 0)
        message = f"the request's value {name!r} is no {kind} in {column.null_count():,} rows, the first is row {row:,}"
        raise DefinitionError(message)
    return column


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
    return column.set(~column.is_finite(), None) if column.dtype.is_float() else column
