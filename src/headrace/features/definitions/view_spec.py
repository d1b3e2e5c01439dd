"""The spec of a feature view: all that workers, readers of the event log and applications need to know of it."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec

from headrace.bus.stream_spec import StreamSpec
from headrace.features.definitions.decimals import lowered
from headrace.features.definitions.expression import ExpressionTree, columns, inline, kind
from headrace.features.definitions.feature_spec import AnyFeatureSpec
from headrace.features.definitions.spec import result_kind, spec_hash
from headrace.features.definitions.windows import WindowSpec

ViewClock = Literal["wall", "stream"]
KeyKind = Literal["str", "int"]


class JoinKey(msgspec.Struct, frozen=True, array_like=True):
    """A field whose value is a part of an entity's key."""

    name: str
    kind: KeyKind


class EntitySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entity that a view's features belong to."""

    name: str
    keys: tuple[JoinKey, ...]

    @property
    def key_kinds(self) -> dict[str, KeyKind]:
        """The kind of each join key by its name, in order."""
        return {key.name: key.kind for key in self.keys}


class DerivedColumn(msgspec.Struct, frozen=True, array_like=True):
    """A column that a view computes from the fields and from the derived columns before it."""

    name: str
    expression: ExpressionTree


class ViewSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A feature view as data. Two specs with the same version are the same view version everywhere."""

    spec_version: int
    name: str = msgspec.field(name="view")
    entity: EntitySpec
    stream: StreamSpec = msgspec.field(name="source")
    where: ExpressionTree
    derived: tuple[DerivedColumn, ...]
    windows: tuple[WindowSpec, ...]
    features: tuple[AnyFeatureSpec, ...]
    max_age_us: int | None
    history_us: int
    delay_us: int
    clock: ViewClock

    def __hash__(self) -> int:
        """Return the hash of the version. So a dict can keep compiled objects by spec."""
        return int(self.version, 16)

    @cached_property
    def version(self) -> str:
        """The hash of the spec."""
        return spec_hash(self)

    @cached_property
    def versioned_name(self) -> str:
        """``name@version``: how the online store, services and models name this version of the view."""
        return f"{self.name}@{self.version}"

    @cached_property
    def key_names(self) -> list[str]:
        """The names of the join keys, in order."""
        return [key.name for key in self.entity.keys]

    @property
    def longest_window_us(self) -> int:
        """The length of the longest window, in microseconds."""
        return max(window.length_us for window in self.windows)

    @cached_property
    def columns(self) -> list[str]:
        """The names of the view's columns, feature by feature; the columns of a feature are window by window."""
        return [f"{self.name}__{name}" for each in self.features for name in each.windowed_columns(self.windows)]

    @cached_property
    def column_kinds(self) -> dict[str, str]:
        """The kind of each of the view's columns: int, float or bool."""
        found = {}
        for feature in self.features:
            of = "int" if feature.value is None else self.kind_of(feature.value)
            for column in feature.windowed_columns(self.windows):
                found[f"{self.name}__{column}"] = result_kind(feature.aggregate, of)
        return found

    @cached_property
    def derived_trees(self) -> dict[str, ExpressionTree]:
        """The expression of each derived column over the stream's fields alone."""
        trees: dict[str, ExpressionTree] = {}
        for column in self.derived:
            trees[column.name] = inline(column.expression, trees)
        return trees

    @cached_property
    def measured_fields(self) -> list[str]:
        """The stream's fields that the view's expressions read, sorted."""
        trees = [self.where, *(tree for feature in self.features for tree in (feature.value, feature.where))]
        return sorted({name for tree in trees if tree is not None for name in columns(self.inlined(tree))})

    @cached_property
    def used_fields(self) -> list[str]:
        """The stream's fields that the view needs: event time, join keys, and the fields its expressions read."""
        return list(dict.fromkeys([self.stream.event_time, *self.key_names, *self.measured_fields]))

    def inlined(self, tree: ExpressionTree) -> ExpressionTree:
        """Return a tree over the view's columns as a tree over the stream's fields alone, with decimals in units."""
        return lowered(inline(tree, self.derived_trees), self.stream.kinds)

    def kind_of(self, tree: ExpressionTree) -> str:
        """Return the kind of a tree's value. Raises DefinitionError if the tree reads a column that does not exist."""
        return kind(self.inlined(tree), self.stream.kinds)
