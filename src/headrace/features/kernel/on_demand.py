"""On-demand features in numpy: each look-up computes them from looked-up values and from the values of the request.

A missing value is null, as everywhere in expressions. A looked-up number that is not finite counts as missing too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from types import GenericAlias
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
from msgspec import UNSET, Meta

from headrace.errors import RequestValueError
from headrace.features.definitions.expression_tree import NOW, check, columns
from headrace.features.definitions.service_spec import OnDemandSpec
from headrace.features.definitions.spec import read_spec
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.masked_column import MaskedColumn, column

if TYPE_CHECKING:
    from msgspec import UnsetType

    from headrace.features.definitions.service_spec import RequestField
    from headrace.features.kernel.states import Values

    GivenColumns = Mapping[str, MaskedColumn]

_MOST_LEVELS = 10
"""The number of levels that the events of a stream may be nested."""
RequestValues = Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
"""The values of a request: one mapping for all entities, or one for each."""
_TYPES: dict[str, Any] = {
    "int": Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    "float": float,
    "bool": bool,
    "str": str,
    "datetime": Annotated[datetime, Meta(tz=True)],
}


class OnDemandFeatures:
    """The on-demand features of a service, compiled from its spec. Without a spec there are none.

    ``names`` are their columns. They read ``request``, values of the request, and ``reads``, columns of the views.
    Raises DefinitionError for an expression that this release does not know.
    """

    def __init__(self, spec: OnDemandSpec) -> None:
        self.features, self.request = spec.features, spec.request
        lists = {} if spec.lists is UNSET else spec.lists
        self._items = {name: kind.removeprefix("list(").removesuffix(")") for name, kind in lists.items()}
        for feature in self.features:
            check(feature.value)
        self.names = [feature.name for feature in self.features]
        own = {*self.names, *(field.name for field in self.request)}
        read = set().union(*(columns(feature.value) for feature in self.features))
        self.reads, self.reads_now = sorted(read - own - {NOW}), NOW in read
        self._places = {field.name: f"value_{place}" for place, field in enumerate(self.request)}
        members = [(self._places[f.name], _type(f), msgspec.field(name=f.name)) for f in self.request]
        self._rows = GenericAlias(list, (msgspec.defstruct("RequestValues", members),))

    def given(self, rows: Sequence[Mapping[str, Any]]) -> GivenColumns:
        """Return the values of a request as columns. A row may hold more values, and a time may be RFC 3339 text.

        The value ``card.country`` may be in an object ``card``. Raises RequestValueError for a value that is missing or
        of another type, naming row and value.
        """
        try:
            found: Sequence[Any] = msgspec.convert([*map(expanded, rows)], self._rows) if self.request else []
        except msgspec.ValidationError as error:
            raise RequestValueError(f"a value of the request: {error}; {self._wanted()}") from error
        return {name: self._column(field, [getattr(row, place) for row in found])
                for field, (name, place) in zip(self.request, self._places.items(), strict=True)}  # fmt: skip

    def _column(self, field: RequestField, values: Sequence[Any]) -> MaskedColumn:
        found = column(map(finite_items, values), field.expression_kind) if field.many else None
        found = finite(column(values, field.kind)) if found is None else found
        if not field.nullable and not found.present.all():
            row = int(np.argmin(found.present))
            message = (
                f"a value of the request: {values[row]} is no number - at `$[{row}].{field.name}`; {self._wanted()}"
            )
            raise RequestValueError(message)
        return found

    def _wanted(self) -> str:
        fields = (f"{f.name}: {f.expression_kind}{' | None' if f.nullable else ''}" for f in self.request)
        return f"wanted in each row: {', '.join(fields)}"

    def values(
        self, found: Mapping[str, Values], given: GivenColumns, rows: int, at_us: int | None = None
    ) -> list[Values]:
        """Return the columns of the features for ``rows`` looked-up rows and the values given with each.

        ``at_us`` is t, for features that read ``now()``.
        """
        looked_up = {name: MaskedColumn(*found[name], self._items.get(name)) for name in self.reads}
        table = {name: finite(column) for name, column in looked_up.items()} | dict(given)
        if self.reads_now:
            table[NOW] = MaskedColumn(np.full(rows, at_us, np.int64), np.ones(rows, bool))
        for feature in self.features:
            table[feature.name] = to_numpy(feature.value, table, rows)
        return [_result(table[name]) for name in self.names]


def _result(found: MaskedColumn) -> Values:
    """A feature as a view has it: a missing text is None."""
    values, present = found.values, found.present
    if values.dtype.kind == "O" and not present.all():
        values = values.copy()
        values[~present] = None
    return values, present


def finite(column: MaskedColumn) -> MaskedColumn:
    """Return the column without the values that are not finite."""
    if column.values.dtype.kind != "f":
        return column
    return MaskedColumn(column.values, column.present & np.isfinite(column.values))


def finite_items(items: list[Any] | None) -> list[Any] | None:
    """Return a list in which numbers that are not finite are null."""
    if items is None:
        return None
    return [None if isinstance(item, float) and not math.isfinite(item) else item for item in items]


def _type(field: RequestField) -> Any:
    of = GenericAlias(list, (_TYPES[field.kind] | None,)) if field.many else _TYPES[field.kind]
    return of | None if field.nullable else of


NOTHING = OnDemandFeatures(OnDemandSpec())


def with_request(rows: Sequence[Mapping[str, Any]], request: RequestValues) -> Sequence[Mapping[str, Any]]:
    """Return each entity together with its request's values. Raises RequestValueError if their numbers differ."""
    if request is None:
        return rows
    each = [request] * len(rows) if isinstance(request, Mapping) else request
    if len(each) != len(rows):
        message = f"{len(rows)} entities came with {len(each)} requests: give one request for all, or one each"
        raise RequestValueError(message)
    return [{**row, **own} for row, own in zip(rows, each, strict=True)]


def expanded(row: Mapping[str, Any], levels: int = _MOST_LEVELS) -> Mapping[str, Any]:
    """Return the values of a request, and those in its objects by names with dots, such as ``card.country``.

    Objects are looked into for so many levels: what is deeper is no value of any event.
    """
    inner = {name: value for name, value in row.items() if isinstance(value, dict)} if levels else {}
    if not inner:
        return row
    more = {f"{name}.{key}": value for name, of in inner.items() for key, value in expanded(of, levels - 1).items()}
    return {**more, **row}


@lru_cache(maxsize=256)
def _compiled(encoded: bytes) -> OnDemandFeatures:
    return OnDemandFeatures(read_spec(msgspec.json.decode(encoded), OnDemandSpec, "a service with on-demand features"))


def on_demand(spec: OnDemandSpec | Mapping[str, Any] | UnsetType) -> OnDemandFeatures:
    """Return the compiled on-demand features of a service's spec, or of the JSON in a model event.

    A process compiles them once. Raises DefinitionError for a spec that this release does not know.
    """
    return _compiled(msgspec.json.encode(spec)) if spec else NOTHING
