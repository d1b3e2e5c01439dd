"""Feature views: aggregates of streams for one entity over windows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from types import NoneType
from typing import TYPE_CHECKING, cast, get_args

import msgspec
from msgspec import UNSET

from headrace.base.arguments import expect, expect_items, expect_values
from headrace.base.times import Duration, bounded_us, duration_us
from headrace.bus.stream import Stream
from headrace.bus.table import Table
from headrace.bus.vector import dim_of
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.entity import KEY_KINDS, Entity
from headrace.features.definitions.expression import Expression
from headrace.features.definitions.expression_kinds import is_decimal, kind, written_kind
from headrace.features.definitions.expression_tree import ExpressionTree, columns, plain_column
from headrace.features.definitions.feature_spec import TAKEN_BACK, CountBySpec, OfAnyKind, OtherKind, RowValueSpec
from headrace.features.definitions.role import Role, roles_of
from headrace.features.definitions.role_spec import DerivedColumn, RoleSpec
from headrace.features.definitions.spec import NUMBER_KINDS, SPEC_VERSION, checked_name
from headrace.features.definitions.table_columns import check_column, check_entity, row_values, table_columns
from headrace.features.definitions.vectors import check_vectors, is_of_vectors
from headrace.features.definitions.view_spec import ViewClock, ViewSpec
from headrace.features.definitions.windows import Lifetime, Window, window_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.aggregates import Aggregate
    from headrace.features.definitions.feature_spec import AnyFeatureSpec, FeatureSpec
    from headrace.features.definitions.windows import WindowSpec

_ANYTHING = [*NUMBER_KINDS, "date", "datetime", "str"]
_CATEGORIES = ["int", "str"]
_OR_ROWS = [*_ANYTHING, "null"]
_TAKES = {
    **dict.fromkeys(["count", "since", "age", "gap"], _OR_ROWS),
    **dict.fromkeys(["count_by", "top_k", "mode", "top_share", "entropy"], _CATEGORIES),
    **dict.fromkeys(["approx_distinct", "first", "last", "last_n", "unique_list"], _ANYTHING),
}


@dataclass(frozen=True)
class FeatureView:
    """Aggregates of one stream, or of several, for one entity over one or more windows.

    ``source`` is a stream, a :class:`Role` of a stream, or a list of these. The expressions of the view read columns
    that all sources have. A window is the length of a sliding one, such as ``"1h"``, or a :class:`Sliding`,
    :class:`Tumbling`, :class:`Calendar`, :class:`Lifetime`, :class:`Rows` or :class:`Session` one. ``where`` keeps the
    rows on which it is true. ``derived`` names further columns for expressions. ``max_age``: a value is ``stale`` if
    its newest event is older. ``history``: a look-up may ask for a time this long before the partition clock.
    ``delay``: a training set assumes this time between an event's ``available_at`` and the look-up that sees it.
    ``clock`` is the time that ages the tiles: ``"wall"`` (``available_at``) or ``"stream"`` (event time).

    Over a :class:`headrace.Table` the features are columns of the newest row, without windows. They are a list of
    columns such as ``["credit_limit"]``, or a dict that gives each feature a column or an expression. They are null
    after a delete, and while ``where`` is not true on the newest row. The entity has the table's key as its join key.

    Raises DefinitionError for a definition that cannot work; the message names the part and the choices.

    >>> from datetime import datetime
    >>> from headrace import Count, Entity, Event, FeatureView, Mean, Stream, col
    >>> class Departure(Event):
    ...     origin: str
    ...     delay_minutes: float
    ...     departed_at: datetime
    >>> departures = Stream("flights.departed", Departure, event_time="departed_at")
    >>> airport = FeatureView(
    ...     "airport",
    ...     entity=Entity("origin", str),
    ...     source=departures,
    ...     windows=["1h", "1d"],
    ...     features={"departures": Count(), "late_share": Mean(col("delay_minutes") > 15)},
    ... )
    >>> airport.spec.columns
    ['airport__departures_1h', 'airport__departures_1d', 'airport__late_share_1h', 'airport__late_share_1d']
    """

    name: str
    entity: Entity
    source: Stream | Role | Sequence[Stream | Role]
    windows: Sequence[Window] = ()
    features: Mapping[str, Aggregate | Expression | str] | Sequence[str] = ()
    max_age: Duration | None = None
    where: Expression | None = None
    derived: Mapping[str, Expression] = field(default_factory=dict)
    history: Duration = "0s"
    delay: Duration = "1ms"
    clock: ViewClock = "wall"

    def __post_init__(self) -> None:
        checked_name("view", self.name)
        self._check_types()
        for name in self.features:
            checked_name(f"view {self.name!r}: feature", name)
        self._check_numbers()
        self._check_durations()
        self._check_windows()
        self._check_join_keys()
        self._check_expressions()
        self._check_columns()

    def _check_numbers(self) -> None:
        if self._table is not None and self.windows:
            message = f"view {self.name!r}: windows={self.windows!r}; a table has the newest rows, and no windows"
            raise DefinitionError(message)
        if not self.features or not (self.windows or self._table):
            what = "one feature" if self._table else "one window and one feature"
            raise DefinitionError(f"view {self.name!r} needs at least {what}")

    def _check_types(self) -> None:
        where = f"view {self.name!r}"
        expect(where, "entity", self.entity, Entity, write="an Entity, such as Entity('shop')")
        expect(where, "source", self.source, (Stream, Role, list, tuple), write="a Stream, or a list of them")
        roles_of(where, self.source)
        expect_items(where, "windows", self.windows, object, write="a list, such as ['1h', Tumbling('1d')]")
        if self._table is None:
            self._check_aggregates(where)
        else:
            table_columns(self.name, self.features)
        expect_values(where, "derived", self.derived, Expression, write="a dict, such as {'twice': col('km') * 2}")
        expect(where, "where", self.where, (Expression, NoneType), write="a condition, such as col('delay') > 15")
        if self.clock not in get_args(ViewClock):
            raise DefinitionError(f"{where}: clock={self.clock!r}; it is one of {list(get_args(ViewClock))}")

    def _check_aggregates(self, where: str) -> None:
        expect_values(where, "features", self.features, object, write="a dict, such as {'orders': Count()}")
        for name, feature in cast("Mapping[str, object]", self.features).items():
            if isinstance(feature, type) or not hasattr(feature, "spec"):
                message = f"{where}: feature {name!r} is {feature!r}; write an aggregate, such as Count()"
                raise DefinitionError(message)

    def _check_durations(self) -> None:
        for name, duration in (("max_age", self.max_age), ("history", self.history), ("delay", self.delay)):
            with naming(f"view {self.name!r}: {name}"):
                bounded_us("0s" if duration is None else duration)
        if duration_us(self.delay) < 1_000:  # noqa: PLR2004 - record timestamps are milliseconds
            message = f"view {self.name!r}: delay {self.delay!r} is too short: at least 1ms, or a row would see itself"
            raise DefinitionError(message)

    def _check_windows(self) -> None:
        names = []
        for window in self.windows:
            with naming(f"view {self.name!r}: window {window!r}"):
                names.append(window_spec(window).name)
        if len(set(names)) != len(names):
            message = f"view {self.name!r}: windows {names} name one twice; each window once"
            raise DefinitionError(message)

    def _check_join_keys(self) -> None:
        if self._table is not None:
            check_entity(self.name, self.entity, self._table)
        for key, key_type in self.entity.join_keys.items():
            for role in self.spec.sources:
                found = role.kinds.get(key)
                if found == KEY_KINDS[key_type]:
                    continue
                message = (
                    f"view {self.name!r}: join key {key!r} of entity {self.entity.name!r} is {key_type.__name__}, "
                    f"{_what(role, key, found)}"
                )
                raise DefinitionError(message)

    def _check_roles(self) -> None:
        """Refuse a column that only some of the sources have, or that is of another kind in some of them."""
        derived = [expression.tree for expression in self.derived.values()]
        of_features = [tree for feature in self._features for tree in feature.trees]
        trees = [*derived, *of_features, None if self.where is None else self.where.tree]
        for name in sorted(set().union(*(columns(tree) for tree in trees if tree is not None)) - self.derived.keys()):
            known = {role.kinds[name] for role in self.spec.sources if name in role.kinds}
            if known and name not in self.spec.kinds:
                each = "; ".join(_what(role, name, role.kinds.get(name)) for role in self.spec.sources)
                message = (
                    f"view {self.name!r}: all of its sources need the column {name!r}, of one kind: {each}. "
                    f"Say which field it is: Role(stream, {name}='…')"
                )
                raise DefinitionError(message)

    def _check_expressions(self) -> None:
        self._check_roles()
        self._check_taken_back()
        self._check_rows_taken_back()
        kinds: dict[str, str] = dict(self.spec.kinds)
        for name, expression in self.derived.items():
            with naming(f"view {self.name!r}: derived {name!r}"):
                kinds[name] = written_kind(expression.tree, kinds)
        for feature in self._features:
            if isinstance(feature, RowValueSpec):
                check_column(self.name, feature, kinds)
            else:
                self._check_feature(feature, kinds)
        if self.where is not None:
            self._check_filter("where", self.where.tree, kinds)

    def _check_columns(self) -> None:
        owners: dict[str, str] = {}
        for feature in self._features:
            for column in feature.windowed_columns(self._windows):
                if column in owners:
                    message = (
                        f"view {self.name!r}: two columns are named {column!r}, one of feature {owners[column]!r} and "
                        f"one of {feature.name!r}: rename a feature"
                    )
                    raise DefinitionError(message)
                owners[column] = feature.name

    def _check_taken_back(self) -> None:
        refused = [each for each in self._features if not isinstance(each, TAKEN_BACK) or is_of_vectors(each)]
        if refused and self.spec.takes_back:
            each = ", ".join(f"{feature.name!r} is a {feature.aggregate}" for feature in refused)
            message = (
                f"view {self.name!r}: a role takes rows back, and {each}: only count, sum, mean, variance, std, "
                "histogram, ratio, count_by and sum_by of numbers can; write a view of its own for the others"
            )
            raise DefinitionError(message)

    def _check_rows_taken_back(self) -> None:
        refused = [window.name for window in self._windows if window.is_of_rows]
        if refused and self.spec.takes_back:
            message = (
                f"view {self.name!r}: a role takes rows back, and the windows {refused} have rows one by one, which "
                "cannot be taken back: write a view of its own for them, without that role"
            )
            raise DefinitionError(message)

    def _check_feature(self, feature: FeatureSpec, kinds: Mapping[str, str]) -> None:
        place = f"feature {feature.name!r}"
        for part in feature.measured:
            if check_vectors(f"view {self.name!r}: {place}", part, kinds):
                continue
            takes = _TAKES.get(part.aggregate, NUMBER_KINDS)
            for value in part.values:
                with naming(f"view {self.name!r}: {place}"):
                    found = written_kind(value, kinds) if value is not None else "int"
                if found not in takes and not (is_decimal(found) and "float" in takes):
                    decimals = " and decimals" if "float" in takes else ""
                    column = None if value is None else plain_column(value)
                    where = f"view {self.name!r}: {place}" + (f" of {column!r}" if column else "")
                    message = f"{where} is a {part.aggregate} of {found}; it takes {takes}{decimals}"
                    raise DefinitionError(message)
                if isinstance(part, CountBySpec):
                    with naming(f"view {self.name!r}: {place}"):
                        kind(["is_in", value, list(part.of)], kinds)
            if part.where is not None:
                self._check_filter(f"{place}: where", part.where, kinds)

    def _check_filter(self, place: str, tree: ExpressionTree, kinds: Mapping[str, str]) -> None:
        with naming(f"view {self.name!r}: {place}"):
            found = written_kind(tree, kinds)
        if found != "bool":
            message = f"view {self.name!r}: {place} is {found}; a filter is bool, such as col('delay') > 15"
            raise DefinitionError(message)

    @property
    def _table(self) -> Table | None:
        return self.source if isinstance(self.source, Table) else None

    @cached_property
    def _windows(self) -> tuple[WindowSpec, ...]:
        return tuple(window_spec(window) for window in ([Lifetime()] if self._table else self.windows))

    @cached_property
    def _features(self) -> tuple[AnyFeatureSpec, ...]:
        if self._table is not None:
            return row_values(table_columns(self.name, self.features), self.where)
        aggregates = cast("Mapping[str, Aggregate]", self.features)
        found = (msgspec.structs.replace(each.spec, name=name) for name, each in aggregates.items())
        return cast("tuple[AnyFeatureSpec, ...]", tuple(found))

    @cached_property
    def _roles(self) -> list[Role] | Stream:
        """The roles of the sources; a plain stream has none."""
        found = roles_of(f"view {self.name!r}", self.source)
        return cast("Stream", self.source) if found is None else found

    @cached_property
    def streams(self) -> list[Stream]:
        """The streams that the view is made of, each once."""
        roles = self._roles
        return (
            [roles] if isinstance(roles, Stream) else list({role.stream.topic: role.stream for role in roles}.values())
        )

    @cached_property
    def spec(self) -> ViewSpec:
        """The view as data: all that workers, readers of the event log and applications need."""
        plain = self._with(self._features)
        features = tuple(_of_kind(feature, plain) for feature in self._features)
        return plain if features == self._features else self._with(features)

    def _with(self, features: tuple[AnyFeatureSpec, ...]) -> ViewSpec:
        """Return the view as data, with these features."""
        return ViewSpec(
            spec_version=SPEC_VERSION,
            name=self.name,
            entity=self.entity.spec,
            stream=self._roles[0].stream.spec if isinstance(self._roles, list) else self._roles.spec,
            where=None if self.where is None or self._table else self.where.tree,  # a table's features have it
            derived=tuple(DerivedColumn(name, expression.tree) for name, expression in self.derived.items()),
            windows=self._windows,
            features=features,
            max_age_us=None if self.max_age is None else duration_us(self.max_age),
            history_us=duration_us(self.history),
            delay_us=duration_us(self.delay),
            clock=self.clock,
            roles=tuple(role.spec for role in self._roles) if isinstance(self._roles, list) else UNSET,
        )

    @property
    def version(self) -> str:
        """The hash of the spec: a changed definition is a new version of the view."""
        return self.spec.version


def _of_kind(feature: AnyFeatureSpec, spec: ViewSpec) -> AnyFeatureSpec:
    """Return a feature with the kind of its values, if they are no numbers. An expression may be wrong still."""
    if not isinstance(feature, OfAnyKind):
        return feature
    with suppress(DefinitionError):
        found = spec.kind_of(feature.value)
        if found in get_args(OtherKind):
            return msgspec.structs.replace(feature, kind=found)
        if isinstance(feature, RowValueSpec) and dim_of(found) is not None:
            return msgspec.structs.replace(feature, dim=dim_of(found))
    return feature


def _what(role: RoleSpec, name: str, found: str | None) -> str:
    """Return what a source has under a name."""
    topic = role.stream.topic
    return (
        f"{topic!r} has no field {name!r}; it has {list(role.kinds)}"
        if found is None
        else f"in {topic!r} it is {found}"
    )
