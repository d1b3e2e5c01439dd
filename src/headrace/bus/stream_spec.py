"""The spec of a stream: what readers of its topic and of the event log know of it, without its Python type."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.event import Kind
from headrace.bus.vector import vector_kind

AVAILABLE_AT = "__available_at"
"""The column of the event log with the time at which a record was available."""
OPERATION, UPSERT, DELETE = "__op", "upsert", "delete"
"""The column of a table's event log with the operation of each record, and its values."""

if TYPE_CHECKING:
    from headrace.bus.event import Field


class FieldSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One field of a stream's events.

    The name of a field of a nested event has dots, such as ``card.country``. ``many``: the field is a list of this
    kind. ``keyed``: it is a dict of texts to this kind. ``time_form`` says how a time is written, if it is not RFC 3339
    text. ``places`` are those of a Decimal, and ``fields`` those of the events of a list.
    ``dim`` is the length of a list that is a vector.
    """

    name: str
    kind: Kind
    many: bool
    nullable: bool
    time_form: str | UnsetType = UNSET
    keyed: bool | UnsetType = UNSET
    places: int | UnsetType = UNSET
    fields: tuple[FieldSpec, ...] | UnsetType = UNSET
    dim: int | UnsetType = UNSET

    @staticmethod
    def of(field: Field) -> FieldSpec:
        """Return the spec of a field of an event type."""
        return FieldSpec(
            name=field.name,
            kind=field.kind,
            many=field.many,
            nullable=field.nullable,
            time_form=UNSET if field.form is None else field.form.spec,
            keyed=field.keyed or UNSET,
            places=UNSET if field.places is None else field.places.places,
            fields=tuple(map(FieldSpec.of, field.fields)) or UNSET,
            dim=UNSET if field.vector is None else field.vector.dim,
        )

    @property
    def expression_kind(self) -> str:
        """The kind of it in expressions, such as ``int``, ``decimal(2)``, ``list(str)`` or ``vector(64)``."""
        if self.dim is not UNSET:
            return vector_kind(self.dim)
        kind = f"decimal({self.places})" if self.kind == "decimal" else self.kind
        return f"list({kind})" if self.many else f"dict({kind})" if self.keyed else kind

    @property
    def item_kinds(self) -> dict[str, str]:
        """The kind of each column of one item of a list: the field's name, or those of the item's fields with a dot."""
        if self.fields is not UNSET:
            return {f"{self.name}.{name}": of for each in self.fields for name, of in each.leaf_kinds.items()}
        return {self.name: msgspec.structs.replace(self, many=False, dim=UNSET).expression_kind}

    @property
    def leaf_kinds(self) -> dict[str, str]:
        """The kind of each column of a field in the event of a list; those of a nested event are its fields."""
        if self.kind == "event" and not self.many and self.fields is not UNSET:
            return {f"{self.name}.{name}": of for each in self.fields for name, of in each.leaf_kinds.items()}
        return {self.name: self.expression_kind}


class StreamSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A stream as data. ``available_at`` is ``record``, the name of a field, or ``event_time+<duration>``.

    ``format`` says how the records are written, if they are not plain JSON. ``unique`` names the fields that no two
    accepted records of a partition share within a time, if the stream has such fields.
    ``table``: it is a table, whose records are new versions of rows, and deletes.

    On the wire it is the part ``source`` of a view's spec.
    """

    topic: str
    event: str
    fields: tuple[FieldSpec, ...]
    event_time: str
    key: tuple[str, ...]
    lateness_us: int
    tolerance_us: int
    available_at: str
    format: str | UnsetType = UNSET
    unique: tuple[str, ...] | UnsetType = UNSET
    within_us: int | UnsetType = UNSET
    table: bool | UnsetType = UNSET

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each field in expressions, by name. The rows of a table have their operation too."""
        own = {OPERATION: "str"} if self.table else {}
        return own | {field.name: field.expression_kind for field in self.fields}

    @cached_property
    def nullable(self) -> frozenset[str]:
        """The names of the fields that may be null."""
        return frozenset(field.name for field in self.fields if field.nullable)
