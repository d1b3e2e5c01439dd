"""What is remembered: entities, feature views and feature services, compiled to a plain JSON spec with a hash."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.bus.duration import Duration, micros
from headrace.bus.event import fields
from headrace.errors import DefinitionError, naming
from headrace.features.expression import Expression, columns, kind
from headrace.features.windows import Window, window_spec

if TYPE_CHECKING:
    from headrace.bus.stream import Stream
    from headrace.features.aggregates import Aggregate

SPEC_VERSION = 1
ON_DEMAND_VERSION = 2
"""The version of a service's spec that has on-demand features; without any it is 1."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
KeyType = type[str] | type[int]
_KEY_KINDS: dict[KeyType, str] = {str: "str", int: "int"}
_NUMBERS = ["bool", "float", "int"]
_ANYTHING = [*_NUMBERS, "datetime", "str"]
_TAKES = {"count": [*_ANYTHING, "null"], "approx_distinct": _ANYTHING}


def spec_hash(spec: Mapping[str, Any]) -> str:
    """16 hex digits of SHA-256 over the canonical JSON of a spec."""
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def view_name(spec: Mapping[str, Any], version: str) -> str:
    """The name of a view version in the online store."""
    return f"{spec['view']}@{version}"


def _checked_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name) or "__" in name:
        message = f"{what} name {name!r}: use letters, digits and single underscores, beginning with a letter"
        raise DefinitionError(message)


@dataclass(frozen=True)
class Entity:
    """What features belong to: ``Entity("origin", str)``, or ``Entity("route", keys=["origin", "dest"])``.

    The join keys are str or int fields of every stream whose views use the entity.
    """

    name: str
    type: KeyType = str
    keys: Sequence[str] | Mapping[str, KeyType] | None = None

    def __post_init__(self) -> None:
        _checked_name("entity", self.name)
        for key, key_type in self.join_keys.items():
            if key_type not in _KEY_KINDS:
                message = f"entity {self.name!r}: join key {key!r} is {key_type.__name__}; a join key is str or int"
                raise DefinitionError(message)

    @cached_property
    def join_keys(self) -> dict[str, KeyType]:
        """The join keys with their types, in order."""
        if self.keys is None:
            return {self.name: self.type}
        return dict(self.keys) if isinstance(self.keys, Mapping) else dict.fromkeys(self.keys, self.type)

    def spec(self) -> dict[str, Any]:
        """The entity as plain JSON."""
        return {"name": self.name, "keys": [[key, _KEY_KINDS[kind_]] for key, kind_ in self.join_keys.items()]}


@dataclass(frozen=True)
class FeatureView:
    """Aggregates of one stream for one entity over one or more windows.

    A window is the length of a sliding one, such as ``"1h"``, a :class:`Tumbling` or the :class:`Lifetime` one.
    ``where`` keeps the rows on which it is true; ``derived`` names further columns. ``max_age`` makes a value ``stale``
    when its newest event is older. ``history`` says how far back of the partition clock a look-up may ask. ``delay`` is
    what a training set assumes between an event's ``available_at`` and its look-up. ``clock`` is what ages the tiles:
    ``"wall"`` (``available_at``) or ``"stream"`` (event time).
    """

    name: str
    entity: Entity
    source: Stream
    windows: Sequence[Window]
    features: Mapping[str, Aggregate]
    max_age: Duration | None = None
    where: Expression | None = None
    derived: Mapping[str, Expression] = field(default_factory=dict)
    history: Duration = "0s"
    delay: Duration = "1ms"
    clock: Literal["wall", "stream"] = "wall"

    def __post_init__(self) -> None:
        _checked_name("view", self.name)
        for name in self.features:
            _checked_name(f"view {self.name!r}: feature", name)
        if not self.windows or not self.features:
            message = f"view {self.name!r} needs at least one window and one feature"
            raise DefinitionError(message)
        self._check_durations()
        self._check_fields()

    def _check_durations(self) -> None:
        for name, duration in (("max_age", self.max_age), ("history", self.history), ("delay", self.delay)):
            with naming(f"view {self.name!r}: {name}"):
                micros("0s" if duration is None else duration)
        if micros(self.delay) < 1_000:  # noqa: PLR2004 - record timestamps are milliseconds
            message = f"view {self.name!r}: delay {self.delay!r} is too short: at least 1ms, or a row would see itself"
            raise DefinitionError(message)
        names = []
        for window in self.windows:
            with naming(f"view {self.name!r}: window {window!r}"):
                names.append(window_spec(window)["name"])
        if len(set(names)) != len(names):
            message = f"view {self.name!r}: windows {names} name one twice; each window once"
            raise DefinitionError(message)

    def _check_fields(self) -> None:
        for key, key_type in self.entity.join_keys.items():
            with naming(f"view {self.name!r}: join key {key!r} of entity {self.entity.name!r}"):
                found = self.source.field(key)
            if found.kind != _KEY_KINDS[key_type] or found.many:
                message = (
                    f"view {self.name!r}: join key {key!r} of entity {self.entity.name!r} is {key_type.__name__}, "
                    f"the field in {self.source.topic!r} is {found.kind}"
                )
                raise DefinitionError(message)
        kinds = {f.name: f.kind for f in self.source.fields if not f.many}
        for name, expression in self.derived.items():
            with naming(f"view {self.name!r}: derived {name!r}"):
                kinds[name] = kind(expression.tree, kinds)  # type: ignore[assignment]
        for name, aggregate in self.features.items():
            self._check_aggregate(name, aggregate, dict(kinds))
        if self.where is not None:
            self._check_filter("where", self.where.tree, dict(kinds))
        self._check_columns()

    def _check_columns(self) -> None:
        owners: dict[str, str] = {}
        for name, aggregate in self.features.items():
            for column in _columns({"name": name, **aggregate.spec()}, self._windows):
                if column in owners:
                    message = (
                        f"view {self.name!r}: two columns are named {column!r}, one of feature {owners[column]!r} and "
                        f"one of {name!r}: rename a feature"
                    )
                    raise DefinitionError(message)
                owners[column] = name

    def _check_aggregate(self, name: str, aggregate: Aggregate, kinds: dict[str, str]) -> None:
        spec = aggregate.spec()
        with naming(f"view {self.name!r}: feature {name!r}"):
            found = kind(spec["value"], kinds) if spec["value"] is not None else "int"
        takes = _TAKES.get(spec["aggregate"], _NUMBERS)
        if found not in takes:
            message = f"view {self.name!r}: feature {name!r} is a {spec['aggregate']} of {found}; it takes {takes}"
            raise DefinitionError(message)
        if spec["where"] is not None:
            self._check_filter(f"feature {name!r}: where", spec["where"], kinds)

    def _check_filter(self, place: str, tree: Any, kinds: dict[str, str]) -> None:
        with naming(f"view {self.name!r}: {place}"):
            found = kind(tree, kinds)
        if found != "bool":
            message = f"view {self.name!r}: {place} is {found}; a filter is bool, such as col('delay') > 15"
            raise DefinitionError(message)

    @cached_property
    def _windows(self) -> list[dict[str, Any]]:
        return [window_spec(window) for window in self.windows]

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The view as plain JSON: all that workers, the log's readers and applications need."""
        return {
            "spec_version": SPEC_VERSION,
            "view": self.name,
            "entity": self.entity.spec(),
            "source": self.source.spec(),
            "where": None if self.where is None else self.where.tree,
            "derived": [[name, expression.tree] for name, expression in self.derived.items()],
            "windows": self._windows,
            "features": [{"name": name, **aggregate.spec()} for name, aggregate in self.features.items()],
            "max_age_us": None if self.max_age is None else micros(self.max_age),
            "history_us": micros(self.history),
            "delay_us": micros(self.delay),
            "clock": self.clock,
        }

    @cached_property
    def version(self) -> str:
        """The spec's hash: a changed definition is a new version of the view."""
        return spec_hash(self.spec)


@dataclass(frozen=True)
class FeatureService:
    """The list of features that one model uses: all columns of its views, in order, then those made on demand.

    ``on_demand`` names expressions over the columns of the views, the values of a request, and the names before it:
    ``{"gap": col("airport__mean_delay_1h") - col("route__mean_delay_1d")}``. ``request`` are the types of the values
    that a look-up brings along: int, float, bool, str or datetime, each perhaps ``| None``.
    """

    name: str
    views: Sequence[FeatureView]
    on_demand: Mapping[str, Expression] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _checked_name("service", self.name)
        names = [view.name for view in self.views]
        if not names or len(set(names)) != len(names):
            message = f"service {self.name!r} lists views {names}: at least one, each once"
            raise DefinitionError(message)
        self._check_on_demand()

    def _check_on_demand(self) -> None:
        made = {feature["name"] for feature in self._made_on_demand}
        for view in self.views:
            for key in made & view.entity.join_keys.keys():
                message = (
                    f"service {self.name!r}: on_demand {key!r} is also a join key of view {view.name!r}: rename it"
                )
                raise DefinitionError(message)
        read = set().union(*(columns(expression.tree) for expression in self.on_demand.values()))
        for name in self.request:
            if name in made or name not in read:
                what = "is also an on-demand feature" if name in made else "is read by no on-demand feature"
                message = f"service {self.name!r}: the request's {name!r} {what}: rename it, or leave it out"
                raise DefinitionError(message)

    def columns(self) -> list[str]:
        """The names of the feature columns in order, such as ``airport__mean_delay_1h``."""
        return [*(column for view in self.views for column in column_names(view.spec)), *self.on_demand]

    @cached_property
    def request_fields(self) -> list[dict[str, Any]]:
        """The values of a request: ``name``, ``kind``, and whether they are ``nullable``."""
        for name in self.request:
            _checked_name(f"service {self.name!r}: request", name)
        with naming(f"service {self.name!r}"):
            found = fields(msgspec.defstruct("request", list(self.request.items())))  # type: ignore[arg-type]
        for each in found:
            if each.many:
                message = (
                    f"service {self.name!r}: the request's {each.name!r} is a list; expressions take single values"
                )
                raise DefinitionError(message)
        return [{"name": each.name, "kind": each.kind, "nullable": each.nullable} for each in found]

    @cached_property
    def _made_on_demand(self) -> list[dict[str, Any]]:
        kinds = {each["name"]: each["kind"] for each in self.request_fields}
        for view in self.views if self.on_demand else ():
            kinds |= column_kinds(view.spec)
        made = []
        for name, expression in self.on_demand.items():
            place = f"service {self.name!r}: on_demand {name!r}"
            _checked_name(f"service {self.name!r}: on_demand", name)
            with naming(place):
                kinds[name] = kind(expression.tree, kinds)
            if kinds[name] not in _NUMBERS:
                message = f"{place} is {kinds[name]}; a feature is one of {_NUMBERS}"
                raise DefinitionError(message)
            made.append({"name": name, "kind": kinds[name], "value": expression.tree})
        return made

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The service as plain JSON: its views by name and version, and what it makes of them on demand."""
        spec: dict[str, Any] = {"spec_version": SPEC_VERSION, "service": self.name}
        spec["views"] = [[view.name, view.version] for view in self.views]
        if self.on_demand:
            made = {"request": self.request_fields, "features": self._made_on_demand}
            spec |= {"spec_version": ON_DEMAND_VERSION, "on_demand": made}
        return spec

    @cached_property
    def version(self) -> str:
        """The spec's hash."""
        return spec_hash(self.spec)


def feature_columns(feature: Mapping[str, Any]) -> list[str]:
    """The column names of one feature in a spec, without view and window.

    One; or one a bucket of a histogram (``_b0`` …), a quantile of a list (``_p50`` …), a value of last-n (``_1`` …).
    """
    name = feature["name"]
    match feature["aggregate"]:
        case "histogram":
            return [f"{name}_b{bucket}" for bucket in range(len(feature["edges"]) + 1)]
        case "last_n":
            return [f"{name}_{place}" for place in range(1, feature["n"] + 1)]
        case "quantile" if isinstance(feature["q"], list):
            return [f"{name}_p{100 * q:g}".replace(".", "_") for q in feature["q"]]
    return [name]


def column_names(spec: Mapping[str, Any]) -> list[str]:
    """The column names of a view spec: features outside, windows inside."""
    return [
        f"{spec['view']}__{column}" for feature in spec["features"] for column in _columns(feature, spec["windows"])
    ]


def _columns(feature: Mapping[str, Any], windows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"{column}_{window['name']}" for column in feature_columns(feature) for window in windows]


def column_kinds(spec: Mapping[str, Any]) -> dict[str, str]:
    """The kind of each column of a view spec: int, float or bool."""
    kinds = {each["name"]: each["kind"] for each in spec["source"]["fields"] if not each["many"]}
    for name, tree in spec["derived"]:
        kinds[name] = kind(tree, kinds)
    found = {}
    for feature in spec["features"]:
        of = "int" if feature["value"] is None else kind(feature["value"], kinds)
        for column in _columns(feature, spec["windows"]):
            found[f"{spec['view']}__{column}"] = result_kind(feature["aggregate"], of)
    return found


def result_kind(aggregate: str, of: str) -> str:
    """The kind of an aggregate's columns over values of a kind."""
    if aggregate in {"count", "histogram", "approx_distinct"}:
        return "int"
    if aggregate in {"first", "last", "last_n"}:
        return of
    return "int" if aggregate in {"sum", "min", "max"} and of != "float" else "float"
