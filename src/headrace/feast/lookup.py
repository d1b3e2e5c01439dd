"""One look-up of Feast: the hashes to read for ordinary views, the tiles to read for tiled views, and the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from feast.metrics import track_feature_statuses
from feast.protos.feast.serving.ServingService_pb2 import FieldStatus
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.base.times import epoch_us
from headrace.feast.answer import NOT_FOUND, NULL_VALUE, OUTSIDE_MAX_AGE, PRESENT, FilledView, cells, fill, timestamp
from headrace.feast.source import HeadraceSource, check_names, tiled
from headrace.features.online.value_columns import lists_of
from headrace.serving.feature_vectors import FEAST_STATUSES

if TYPE_CHECKING:
    from datetime import timedelta

    from headrace.serving.features import FeatureClient, ViewAnswer

FeatureRefs = Sequence[tuple[Any, list[str]]]
"""Feast's views, each with the features that were asked for."""


@dataclass
class EntityGroup:
    """Views whose join keys come from the same columns of the request.

    ``columns`` has the Values of each join key, one for each row. A row that lacks one has no entity: its place is -1.
    """

    columns: Mapping[str, Sequence[Any]]
    rows: Sequence[tuple[Any, ...]]
    refs: list[tuple[int, Any, list[str]]] = field(default_factory=list)

    @cached_property
    def _first(self) -> dict[tuple[Any, ...], int]:
        """The distinct entities and the first row of each."""
        first: dict[tuple[Any, ...], int] = {}
        for index, row in enumerate(self.rows):
            if None not in row:
                first.setdefault(row, index)
        return first

    @cached_property
    def which(self) -> list[int]:
        """The place of each row's entity among the distinct entities."""
        places = {row: place for place, row in enumerate(self._first)}
        return [places.get(row, -1) for row in self.rows]

    def keys(self) -> list[Any]:
        """Return the distinct entities as Feast's entity keys."""
        columns = self.columns.values()
        return [
            EntityKey(join_keys=self.columns.keys(), entity_values=[column[index] for column in columns])
            for index in self._first.values()
        ]

    def dicts(self) -> list[dict[str, Any]]:
        """Return the rows as dicts by join key."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def native(value: Any) -> Any:
    """Return the content of a Value; None if it is empty."""
    kind = value.WhichOneof("val")
    return None if kind is None else getattr(value, kind)


@dataclass(frozen=True)
class HookArguments:
    """The arguments that Feast gives to its hooks under ``get_online_features``, in its order and with its names.

    The look-up fills ``online_features_response``.
    """

    grouped_refs: FeatureRefs
    join_key_values: Mapping[str, Any]
    entity_name_to_join_key_map: Mapping[str, str]
    online_features_response: Any
    full_feature_names: bool
    include_feature_view_version_metadata: bool


class FeastLookup:
    """One look-up. Its answers go into the response in the order of the views that were asked for."""

    def __init__(self, asked: HookArguments, hashes: Callable[[EntityGroup], OrdinaryViewHashes]) -> None:
        self._asked = asked
        if not asked.full_feature_names:
            check_names(asked.grouped_refs)
        ordinary: list[EntityGroup] = []
        self.tiled: list[EntityGroup] = []
        groups: dict[tuple[Any, ...], EntityGroup] = {}
        natives = {name: [native(value) for value in values] for name, values in asked.join_key_values.items()}
        for place, (view, features) in enumerate(asked.grouped_refs):
            columns = _columns(view, asked.join_key_values, asked.entity_name_to_join_key_map)
            is_tiled = tiled(view) is not None
            identity = (is_tiled, *columns.items())
            if identity not in groups:
                rows = list(zip(*(natives[column] for column in columns.values()), strict=True))
                values = {key: asked.join_key_values[column] for key, column in columns.items()}
                groups[identity] = EntityGroup(values, rows)
                (self.tiled if is_tiled else ordinary).append(groups[identity])
            groups[identity].refs.append((place, view, features))
        self._hashes = [hashes(group) for group in ordinary]
        self.commands = [command for one in self._hashes for command in one.commands()]

    def answer(self, replies: Sequence[Any], of_tiles: Mapping[int, FilledView]) -> None:
        """Fill the response from the replies to the commands, and from the tiled views by their places."""
        found = {**of_tiles, **self._of_hashes(replies)}
        response = self._asked.online_features_response
        for place, (view, features) in enumerate(self._asked.grouped_refs):
            name = view.projection.name_to_use()
            names = [f"{name}__{feature}" if self._asked.full_feature_names else feature for feature in features]
            fill(response, names, found[place])
            present = sum(statuses.count(PRESENT) for statuses in found[place].statuses)
            track_feature_statuses(view.name, present, sum(map(len, found[place].statuses)) - present)
            if self._asked.include_feature_view_version_metadata:
                _note_version(view, response)

    def _of_hashes(self, replies: Sequence[Any]) -> dict[int, FilledView]:
        start, now_s = 0, time.time()
        found: dict[int, FilledView] = {}
        for one in self._hashes:
            found |= one.filled(replies[start : start + len(one.keys)], now_s)
            start += len(one.keys)
        return found


def _note_version(view: Any, response: Any) -> None:
    name = view.projection.name_alias or view.projection.name
    if name not in [noted.name for noted in response.metadata.feature_view_metadata]:
        version = getattr(view, "current_version_number", 0) or 0
        response.metadata.feature_view_metadata.add(name=name, version=version)


def _columns(view: Any, join_key_values: Mapping[str, Any], key_of_entity: Mapping[str, str]) -> dict[str, str]:
    """The view's join keys, each with the column of the request that has its values. Raises KeyError."""
    keys = [key_of_entity[entity] for entity in view.entities]
    columns = {key: view.projection.join_key_map.get(key, key) for key in keys}
    missing = [column for column in columns.values() if column not in join_key_values]
    if missing:
        raise KeyError(
            f"view {view.projection.name_to_use()!r}: Missing join key values for keys: {missing}. "
            f"Provided join_key_values: {list(join_key_values)}"
        )
    return columns


# -- ordinary views ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OrdinaryViewHashes:
    """Reads the ordinary views of a group in Feast's own layout: a hash for each entity has the fields of all views."""

    group: EntityGroup
    keys: Sequence[bytes]
    fields: Sequence[Sequence[str | bytes]]

    def commands(self) -> list[tuple[bytes, list[str | bytes]]]:
        """Return the key and the fields to read, one hash after the other."""
        wanted = [name for of_view in self.fields for name in of_view]
        return [(key, wanted) for key in self.keys]

    def filled(self, replies: Sequence[Sequence[bytes | None]], now_s: float) -> dict[int, FilledView]:
        """Return the answers in the hashes, by the place of the view."""
        start, found = 0, {}
        for (place, view, _), names in zip(self.group.refs, self.fields, strict=True):
            nothing: Sequence[bytes | None] = [None] * len(names)
            read = [reply[start : start + len(names)] for reply in replies]
            rows = [read[which] if which >= 0 else nothing for which in self.group.which]
            ttl: timedelta | None = getattr(view, "ttl", None)  # an on-demand view that is written has none
            found[place] = _of_hashes(rows, len(names) - 1, ttl.total_seconds() if ttl else None, now_s)
            start += len(names)
        return found


def _of_hashes(rows: Sequence[Sequence[bytes | None]], features: int, ttl_s: float | None, now_s: float) -> FilledView:
    """The answer in rows of fields in Feast's layout. The last field of a row is its event time."""
    times = [row[-1] for row in rows]
    states = [_state(time, ttl_s, now_s) for time in times]
    values = [[row[column] or b"" for row in rows] for column in range(features)]
    statuses = [_statuses(states, of) for of in values]
    return FilledView([time or b"" for time in times], values, statuses)


def _state(time: bytes | None, ttl_s: float | None, now_s: float) -> int:
    """The status of all features of a row; 0 if the value of each decides."""
    if time is None:
        return NOT_FOUND
    is_old = ttl_s is not None and now_s - Timestamp.FromString(time).ToMicroseconds() / 1e6 > ttl_s
    return OUTSIDE_MAX_AGE if is_old else 0


# -- tiled views -------------------------------------------------------------------------------------------------------

_STATES = {status: FieldStatus.Value(name) if name else 0 for status, name in FEAST_STATUSES.items()}
"""The status of all features of a row; 0 if the value of each decides."""


def of_tiles(group: EntityGroup, client: FeatureClient) -> dict[int, FilledView]:
    """Return the answers in the tiles, by the place of the view."""
    sources = [source for _, view, _ in group.refs if (source := tiled(view))]
    found = client.get_views([source.view for source in sources], group.dicts())
    return {
        place: _of_tiles(answer, source, features, epoch_us(found.at))
        for (place, _, features), source, answer in zip(group.refs, sources, found.views, strict=True)
    }


def columns_of(
    answer: ViewAnswer, source: HeadraceSource, features: Sequence[str]
) -> Iterator[tuple[Sequence[Any], Sequence[bool]]]:
    """Yield the values of these features and where there is one. No other feature is taken from the answer."""
    places = {name: place for place, name in enumerate(source.kinds)}
    for feature in features:
        yield lists_of(answer.values, places[feature])


def _of_tiles(answer: ViewAnswer, source: HeadraceSource, features: Sequence[str], at_us: int) -> FilledView:
    states = [_STATES[status] for status in answer.statuses]
    whole = b"" if any(states) else bytes([PRESENT]) * len(states)
    values, statuses = [], []
    for feature, (column, there) in zip(features, columns_of(answer, source, features), strict=True):
        values.append(cells(column, there, source.kinds[feature]))
        statuses.append(whole if whole and all(there) else _statuses(states, there))
    return FilledView([timestamp(at_us - age) if age >= 0 else b"" for age in answer.age_us.tolist()], values, statuses)


def _statuses(states: Sequence[int], there: Sequence[object]) -> bytes:
    """The statuses of rows. ``states`` has the status of all features of a row, or 0: then ``there`` decides."""
    return bytes([state or (PRESENT if has else NULL_VALUE) for state, has in zip(states, there, strict=True)])
