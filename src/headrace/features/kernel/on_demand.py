"""On-demand features in numpy: expressions over looked-up values and those of a request, worked out at each look-up.

What is missing is null, as everywhere in expressions; a looked-up number that is not finite counts as missing too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from headrace.errors import NewerFormatError, RequestValueError
from headrace.features.definitions.expression import check, columns
from headrace.features.definitions.service import ON_DEMAND_VERSION
from headrace.features.kernel.expression_numpy import MaskedColumn, column, to_numpy

if TYPE_CHECKING:
    from headrace.features.kernel.states import Values

    GivenColumns = Mapping[str, MaskedColumn]

RequestValues = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""The values of a request: one mapping for all entities, or one each."""
_TYPES: dict[str, Any] = {
    "int": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "float": float,
    "bool": bool,
    "str": str,
    "datetime": Annotated[datetime, Meta(tz=True)],
}


class OnDemandFeatures:
    """The on-demand features of a service, compiled from its spec's ``on_demand``; none of an empty one.

    ``names`` are their columns. ``request`` are the request's values that they read: name, kind, and whether nullable.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.features: Sequence[Mapping[str, Any]] = spec.get("features", ())
        self.request: Sequence[Mapping[str, Any]] = spec.get("request", ())
        for feature in self.features:
            check(feature["value"])
        self.names = [feature["name"] for feature in self.features]
        own = {*self.names, *(field["name"] for field in self.request)}
        self.reads = sorted(set().union(*(columns(feature["value"]) for feature in self.features)) - own)
        """The columns of views that they are made of."""
        row = msgspec.defstruct("RequestValues", [(field["name"], _type(field)) for field in self.request])
        self._rows = GenericAlias(list, (row,))

    def given(self, rows: Sequence[Mapping[str, Any]]) -> GivenColumns:
        """The values of a request as columns; a row may hold more, and a time may be RFC 3339 text.

        Raises RequestValueError for a value that is missing or of another type, naming row and value.
        """
        try:
            found: Sequence[Any] = msgspec.convert(rows, self._rows) if self.request else []
        except msgspec.ValidationError as error:
            raise RequestValueError(f"a value of the request: {error}; {self._wanted()}") from error
        return {field["name"]: self._column(field, [getattr(row, field["name"]) for row in found])
                for field in self.request}  # fmt: skip

    def _column(self, field: Mapping[str, Any], values: Sequence[Any]) -> MaskedColumn:
        found = finite(column(values, field["kind"]))
        if not field["nullable"] and not found.present.all():
            row = int(np.argmin(found.present))
            message = (
                f"a value of the request: {values[row]} is no number - at `$[{row}].{field['name']}`; {self._wanted()}"
            )
            raise RequestValueError(message)
        return found

    def _wanted(self) -> str:
        fields = (f"{f['name']}: {f['kind']}{' | None' if f['nullable'] else ''}" for f in self.request)
        return f"wanted in each row: {', '.join(fields)}"

    def values(self, found: Mapping[str, Values], given: GivenColumns, rows: int) -> list[Values]:
        """The columns of the features, of ``rows`` looked-up rows and what was given with each."""
        table = {name: finite(MaskedColumn(*found[name])) for name in self.reads} | dict(given)
        for feature in self.features:
            table[feature["name"]] = to_numpy(feature["value"], table, rows)
        return [(table[name].values, table[name].present) for name in self.names]


def finite(column: MaskedColumn) -> MaskedColumn:
    """The column without what is not finite."""
    if column.values.dtype.kind != "f":
        return column
    return MaskedColumn(column.values, column.present & np.isfinite(column.values))


def _type(field: Mapping[str, Any]) -> Any:
    return _TYPES[field["kind"]] | None if field["nullable"] else _TYPES[field["kind"]]


NOTHING = OnDemandFeatures({})


def with_request(rows: Sequence[Mapping[str, Any]], request: RequestValues) -> Sequence[Mapping[str, Any]]:
    """Each entity with the request's values beside it. Raises RequestValueError where there are not as many."""
    if request is None:
        return rows
    each = [request] * len(rows) if isinstance(request, Mapping) else request
    if len(each) != len(rows):
        message = f"{len(rows)} entities came with {len(each)} requests: give one request for all, or one each"
        raise RequestValueError(message)
    return [{**row, **own} for row, own in zip(rows, each, strict=True)]


@lru_cache(maxsize=256)
def _compiled(canonical: bytes) -> OnDemandFeatures:
    return OnDemandFeatures(msgspec.json.decode(canonical))


def on_demand(spec: Mapping[str, Any]) -> OnDemandFeatures:
    """What a service's spec, or a model event's, says of on-demand features; compiled once a process.

    Raises NewerFormatError for a spec of a later release, DefinitionError for what is no expression.
    """
    if spec.get("spec_version", 1) > ON_DEMAND_VERSION:
        message = (
            f"service {spec['service']!r} has spec version {spec['spec_version']}, this release reads up to "
            f"{ON_DEMAND_VERSION}: upgrade headrace"
        )
        raise NewerFormatError(message)
    part = spec.get("on_demand")
    return _compiled(msgspec.json.encode(part)) if part else NOTHING
