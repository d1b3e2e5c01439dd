"""The spec of a role: a stream as one of several sources of a view, with the view's columns made of its fields."""

from __future__ import annotations

from functools import cached_property

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.stream_spec import StreamSpec
from headrace.features.definitions.expression_kinds import kind, nullable
from headrace.features.definitions.expression_tree import ExpressionTree, columns


class DerivedColumn(msgspec.Struct, frozen=True, array_like=True):
    """A column that is computed from the fields of a stream, and in a view also from the derived columns before it."""

    name: str
    expression: ExpressionTree


class RoleSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """One role of a stream in a view: ``columns`` stand in place of fields, or next to them.

    ``event_time`` names the field that says when a row of this role happened, if it is not the stream's own. ``where``
    is true for the records that have a row in this role. ``takes_back``: a row takes an earlier, equal one back.
    ``explode`` names a list: then each of its items is a row.
    """

    stream: StreamSpec = msgspec.field(name="source")
    columns: tuple[DerivedColumn, ...] = ()
    event_time: str | UnsetType = UNSET
    where: ExpressionTree | UnsetType = UNSET
    takes_back: bool | UnsetType = UNSET
    explode: str | UnsetType = UNSET

    @property
    def time_field(self) -> str:
        """The field with the event time of its rows."""
        return self.stream.event_time if self.event_time is UNSET else self.event_time

    @cached_property
    def trees(self) -> dict[str, ExpressionTree]:
        """The expression of each column that it declares, over the stream's fields."""
        return {column.name: column.expression for column in self.columns}

    @cached_property
    def field_kinds(self) -> dict[str, str]:
        """The kind of each field that its expressions read: those of the stream, with items in place of their list."""
        if self.explode is UNSET:
            return self.stream.kinds
        rest = {name: of for name, of in self.stream.kinds.items() if name != self.explode}
        (exploded,) = (field for field in self.stream.fields if field.name == self.explode)
        return rest | exploded.item_kinds

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each of its columns, declared ones and fields. Raises DefinitionError."""
        fields = self.field_kinds
        return fields | {name: kind(tree, fields) for name, tree in self.trees.items()}

    @cached_property
    def nullable(self) -> frozenset[str]:
        """The names of its columns that may be null. An item of a list may be."""
        fields = self.stream.nullable | (self.field_kinds.keys() - self.stream.kinds.keys())
        if self.explode is not UNSET:
            fields |= {self.explode}
        declared = {name for name, tree in self.trees.items() if nullable(tree, fields)}
        return frozenset(declared | (fields - self.trees.keys()))

    def fields_for(self, names: list[str]) -> list[str]:
        """Return the stream's fields that these columns and the event time are made of."""
        made = [columns(self.trees[name]) if name in self.trees else {name} for name in names]
        made += [] if self.where is UNSET else [columns(self.where)]
        used = set().union(*made)
        if self.explode is not UNSET:
            used = {name for name in used if not name.startswith(f"{self.explode}.")} | {self.explode}
        return [self.time_field, *sorted(used - {self.time_field})]
