"""The spec of a feature view: all that workers, readers of the event log and applications need to know of it."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.stream_spec import StreamSpec
from headrace.features.definitions.decimals import lowered
from headrace.features.definitions.expression_kinds import kind
from headrace.features.definitions.expression_tree import ExpressionTree, columns, inline
from headrace.features.definitions.feature_spec import AnyFeatureSpec
from headrace.features.definitions.role_spec import DerivedColumn, RoleSpec
from headrace.features.definitions.spec import spec_hash
from headrace.features.definitions.windows import WindowSpec

ViewClock = Literal["wall", "stream"]
KeyKind = Literal["str", "int"]
NO_KEY, NO_KEY_VALUE = "__dummy_id", ""
"""The join key of an entity without join keys, and its value in every row. Feast has the same ones."""


class JoinKey(msgspec.Struct, frozen=True, array_like=True):
    """A field whose value is a part of an entity's key."""

    name: str
    kind: KeyKind


class EntitySpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The entity that a view's features belong to. It has one join key at least: NO_KEY if it is global."""

    name: str
    keys: tuple[JoinKey, ...]

    @property
    def is_global(self) -> bool:
        """True if there is one such entity, to which all rows belong."""
        return self.keys[0].name == NO_KEY

    @property
    def key_kinds(self) -> dict[str, KeyKind]:
        """The kind of each join key by its name, in order."""
        return {key.name: key.kind for key in self.keys}


class ViewSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A feature view as data. Two specs with the same version are the same view version everywhere.

    ``roles`` are the sources of a view that has several, or one under other names. ``stream`` is then the first one's.
    """

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
    roles: tuple[RoleSpec, ...] | UnsetType = UNSET

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
    def sources(self) -> tuple[RoleSpec, ...]:
        """The roles of the view's streams; those of a view of one plain stream are that stream alone."""
        return (RoleSpec(stream=self.stream),) if self.roles is UNSET else self.roles

    @cached_property
    def topics(self) -> list[str]:
        """The topics of the view's streams, each once."""
        return list(dict.fromkeys(role.stream.topic for role in self.sources))

    def roles_of(self, topic: str) -> list[RoleSpec]:
        """Return the roles of one of the view's streams, in order."""
        return [role for role in self.sources if role.stream.topic == topic]

    def stream_of(self, topic: str) -> StreamSpec:
        """Return one of the view's streams."""
        return self.roles_of(topic)[0].stream

    @property
    def takes_back(self) -> bool:
        """True if one of the view's roles takes rows back."""
        return any(role.takes_back is True for role in self.sources)

    @property
    def tolerance_us(self) -> int:
        """The largest tolerance of the view's streams."""
        return max(role.stream.tolerance_us for role in self.sources)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The kind of each column that the view's expressions may read: all its roles have it, with this kind."""
        first, *others = (role.kinds for role in self.sources)
        return {name: of for name, of in first.items() if all(other.get(name) == of for other in others)}

    @cached_property
    def nullable(self) -> frozenset[str]:
        """The names of the columns that may be null."""
        return frozenset().union(*(role.nullable for role in self.sources))

    @cached_property
    def key_names(self) -> list[str]:
        """The names of the join keys, in order."""
        return [key.name for key in self.entity.keys]

    @cached_property
    def key_fields(self) -> list[str]:
        """The fields of the stream that make the key, in order; none for a global entity."""
        return [] if self.entity.is_global else self.key_names

    @property
    def longest_reach_us(self) -> int:
        """The time from the earliest beginning of a window to now, in microseconds."""
        return max(window.reach_us for window in self.windows)

    @cached_property
    def columns(self) -> list[str]:
        """The names of the view's columns, feature by feature; the columns of a feature are window by window."""
        return [f"{self.name}__{name}" for each in self.features for name in each.windowed_columns(self.windows)]

    @cached_property
    def column_kinds(self) -> dict[str, str]:
        """The kind of each of the view's columns: int, float, bool, str, datetime, date, or such as ``list(str)``."""
        found = {}
        for feature in self.features:
            of = "int" if feature.value is None else self.kind_of(feature.value)
            for column in feature.windowed_columns(self.windows):
                found[f"{self.name}__{column}"] = feature.result(of)
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
        """The fields, or columns of roles, that the view's expressions read, sorted."""
        trees = [self.where, *(tree for feature in self.features for tree in feature.trees)]
        return sorted({name for tree in trees if tree is not None for name in columns(self.inlined(tree))})

    @cached_property
    def used_columns(self) -> list[str]:
        """The columns that the view needs of its rows: join keys, and the columns its expressions read."""
        return list(dict.fromkeys([*self.key_fields, *self.measured_fields]))

    def fields_of(self, topic: str) -> list[str]:
        """Return the fields of one of the view's streams that the view needs, first the event time."""
        if self.roles is UNSET:
            return list(dict.fromkeys([self.stream.event_time, *self.used_columns]))
        fields = (name for role in self.roles_of(topic) for name in role.fields_for(self.used_columns))
        return list(dict.fromkeys([self.stream_of(topic).event_time, *fields]))

    def inlined(self, tree: ExpressionTree) -> ExpressionTree:
        """Return a tree over the view's columns as a tree over the stream's fields alone, with decimals in units."""
        return lowered(inline(tree, self.derived_trees), self.kinds)

    def kind_of(self, tree: ExpressionTree) -> str:
        """Return the kind of a tree's value. Raises DefinitionError if the tree reads a column that does not exist."""
        return kind(self.inlined(tree), self.kinds)
