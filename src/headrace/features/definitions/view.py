"""Feature views: aggregates of one stream for one entity over windows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.base.times import Duration, duration_us
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression import Expression, kind
from headrace.features.definitions.windows import Window, window_spec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.stream import Stream
    from headrace.features.definitions.aggregates import Aggregate
from headrace.features.definitions.entity import KEY_KINDS, Entity
from headrace.features.definitions.spec import NUMBER_KINDS, SPEC_VERSION, checked_name, spec_hash, windowed_columns

_ANYTHING = [*NUMBER_KINDS, "datetime", "str"]


_TAKES = {"count": [*_ANYTHING, "null"], "approx_distinct": _ANYTHING}


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
        checked_name("view", self.name)
        for name in self.features:
            checked_name(f"view {self.name!r}: feature", name)
        if not self.windows or not self.features:
            message = f"view {self.name!r} needs at least one window and one feature"
            raise DefinitionError(message)
        self._check_durations()
        self._check_fields()

    def _check_durations(self) -> None:
        for name, duration in (("max_age", self.max_age), ("history", self.history), ("delay", self.delay)):
            with naming(f"view {self.name!r}: {name}"):
                duration_us("0s" if duration is None else duration)
        if duration_us(self.delay) < 1_000:  # noqa: PLR2004 - record timestamps are milliseconds
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
            if found.kind != KEY_KINDS[key_type] or found.many:
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
            for column in windowed_columns({"name": name, **aggregate.spec()}, self._windows):
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
        takes = _TAKES.get(spec["aggregate"], NUMBER_KINDS)
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
            "source": msgspec.json.decode(msgspec.json.encode(self.source.spec)),
            "where": None if self.where is None else self.where.tree,
            "derived": [[name, expression.tree] for name, expression in self.derived.items()],
            "windows": self._windows,
            "features": [{"name": name, **aggregate.spec()} for name, aggregate in self.features.items()],
            "max_age_us": None if self.max_age is None else duration_us(self.max_age),
            "history_us": duration_us(self.history),
            "delay_us": duration_us(self.delay),
            "clock": self.clock,
        }

    @cached_property
    def version(self) -> str:
        """The spec's hash: a changed definition is a new version of the view."""
        return spec_hash(self.spec)
