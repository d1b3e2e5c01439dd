"""The online store for Feast: tiled views from tiles, every other view in Feast's own Redis layout."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from feast.infra.online_stores.redis import (
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    RedisType,
    _versioned_fv_name,
)
from feast.metrics import track_feature_statuses
from feast.protos.feast.types.Value_pb2 import Value

from headrace.bus.duration import micros
from headrace.errors import DefinitionError, SettingsError
from headrace.feast.answer import PRESENT, cells, fill
from headrace.feast.lookup import Group, Hashes, Lookup, Refs, native, of_tiles
from headrace.feast.source import tiled
from headrace.serving.features import FeatureClient, Status

if TYPE_CHECKING:
    from headrace.feast.answer import Filled
    from headrace.feast.source import HeadraceSource


class HeadraceOnlineStoreConfig(RedisOnlineStoreConfig):
    """The settings of Feast's Redis store, and where the tiles are."""

    type: Literal["headrace.feast.HeadraceOnlineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "headrace.feast.HeadraceOnlineStore"
    )
    """Online store type selector."""
    redis_url: str | None = None
    """Redis of the tiles, redis://… Not set: that of ``connection_string``."""
    namespace: str = "headrace"
    """The namespace of the project whose views these are."""
    heartbeat_bound: str = "5s"
    """Age of a worker's heartbeat beyond which tiled values are OUTSIDE_MAX_AGE."""
    clock: Literal["wall", "stream"] = "wall"
    """What time it is for tiled views: this machine's, or for replayed history the largest clock of a partition."""


class HeadraceOnlineStore(RedisOnlineStore):
    """Looks tiled views up by FeatureClient; reads and writes ordinary ones in Feast's Redis layout.

    Of both, an entity that is not there is NOT_FOUND, one without a value NULL_VALUE, and one that is older than its
    view's ``ttl`` OUTSIDE_MAX_AGE, with the value that it has.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[Any, ...], FeatureClient] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def _tiles(self, config: Any) -> FeatureClient:
        own: HeadraceOnlineStoreConfig = config.online_store
        url = own.redis_url or redis_url(own)
        identity = (url, own.namespace, own.clock, own.heartbeat_bound)
        if identity not in self._clients:
            options: dict[str, Any] = {"clock": "stream"} if own.clock == "stream" else {}
            bound_us = micros(own.heartbeat_bound)
            self._clients[identity] = FeatureClient.from_url(url, own.namespace, heartbeat_bound_us=bound_us, **options)
        return self._clients[identity]

    async def _get_client_async(self, online_store_config: Any) -> Any:
        """Feast keeps one client for ever; a client is of one loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client_async, self._loop = None, loop
        return await super()._get_client_async(online_store_config)

    async def close(self) -> None:
        """Give the asynchronous connections back."""
        client: Any = self._client_async
        self._client_async = None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    # -- get_online_features -------------------------------------------------------------------------------------------

    def _read_features_per_fv(
        self,
        config: Any,
        grouped_refs: Refs,
        join_key_values: Mapping[str, Any],
        entity_name_to_join_key_map: Mapping[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Feast's hook under ``get_online_features``."""
        lookup = Lookup(grouped_refs, join_key_values, entity_name_to_join_key_map)
        hashes = [self._hashes(config, group) for group in lookup.ordinary]
        commands = [command for one in hashes for command in one.commands()]
        replies = self._read_hash_fields(config, commands) if commands else []
        found = _of_hashes(hashes, replies) | self._of_tiles(config, lookup.tiled)
        _answer(
            grouped_refs, found, online_features_response, full_feature_names, include_feature_view_version_metadata
        )

    async def _read_features_per_fv_async(
        self,
        config: Any,
        grouped_refs: Refs,
        join_key_values: Mapping[str, Any],
        entity_name_to_join_key_map: Mapping[str, str],
        online_features_response: Any,
        full_feature_names: bool,
        include_feature_view_version_metadata: bool,
    ) -> None:
        """Feast's hook under ``get_online_features_async``, which ``feast serve`` takes."""
        lookup = Lookup(grouped_refs, join_key_values, entity_name_to_join_key_map)
        hashes = [self._hashes(config, group) for group in lookup.ordinary]
        replies, tiles = await asyncio.gather(self._replies(config, hashes), self._of_tiles_async(config, lookup.tiled))
        found = _of_hashes(hashes, replies) | tiles
        _answer(
            grouped_refs, found, online_features_response, full_feature_names, include_feature_view_version_metadata
        )

    def _hashes(self, config: Any, group: Group) -> Hashes:
        keys = self._generate_redis_keys_for_entities(config, group.keys())
        fields = []
        for _, view, features in group.refs:
            name = _versioned_fv_name(view, config)
            fields.append(self._generate_hset_keys_for_features(view, [*features], fv_name_override=name)[1])
        return Hashes(group, keys, fields)

    async def _replies(self, config: Any, hashes: Sequence[Hashes]) -> Sequence[Any]:
        commands = [command for one in hashes for command in one.commands()]
        if not commands:
            return []
        client = await self._get_client_async(config.online_store)
        async with client.pipeline(transaction=False) as pipe:
            for key, names in commands:
                pipe.hmget(key, names)
            replies: Sequence[Any] = await pipe.execute()
            return replies

    def _of_tiles(self, config: Any, groups: Sequence[Group]) -> dict[int, Filled]:
        client = self._tiles(config) if groups else None
        return {place: filled for group in groups if client for place, filled in of_tiles(group, client).items()}

    async def _of_tiles_async(self, config: Any, groups: Sequence[Group]) -> dict[int, Filled]:
        return await asyncio.to_thread(self._of_tiles, config, groups) if groups else {}

    # -- one view ------------------------------------------------------------------------------------------------------

    def online_read(
        self, config: Any, table: Any, entity_keys: list[Any], requested_features: list[str] | None = None
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """The event time and the features of each entity; None and None where it is not found."""
        source = tiled(table)
        if source is None:
            found: list[Any] = super().online_read(config, table, entity_keys, requested_features)
            return found
        return self._read_tiles(config, source, entity_keys, requested_features)

    async def online_read_async(
        self, config: Any, table: Any, entity_keys: list[Any], requested_features: list[str] | None = None
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """The same."""
        source = tiled(table)
        if source is None:
            found: list[Any] = await super().online_read_async(config, table, entity_keys, requested_features)
            return found
        return await asyncio.to_thread(self._read_tiles, config, source, entity_keys, requested_features)

    def _read_tiles(
        self, config: Any, source: HeadraceSource, entity_keys: Sequence[Any], requested: Sequence[str] | None
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        rows = [dict(zip(key.join_keys, map(native, key.entity_values), strict=True)) for key in entity_keys]
        found = self._tiles(config).get([source.view], rows)
        answer = found.views[0]
        names = [*(requested or source.kinds)]
        order = {name: place for place, name in enumerate(source.kinds)}
        columns = [cells(answer.values[order[name]], source.kinds[name]) for name in names]
        return [
            (None, None)
            if status is Status.MISSING or age < 0
            else (
                datetime.fromtimestamp((found.at_us - age) / 1e6, UTC),
                {name: Value.FromString(cell) for name, cell in zip(names, row, strict=True)},
            )
            for status, age, row in zip(
                answer.statuses, answer.age_us.tolist(), zip(*columns, strict=True), strict=True
            )
        ]

    # -- writes --------------------------------------------------------------------------------------------------------

    def online_write_batch(
        self, config: Any, table: Any, data: list[Any], progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows of an ordinary view. Raises DefinitionError for a tiled one, which only workers write."""
        _refuse_rows(table, data)
        super().online_write_batch(config, table, data, progress)

    async def online_write_batch_async(
        self, config: Any, table: Any, data: list[Any], progress: Callable[[int], Any] | None
    ) -> None:
        """The same."""
        _refuse_rows(table, data)
        await super().online_write_batch_async(config, table, data, progress)

    def update(
        self,
        config: Any,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Delete the rows of ordinary views that went; tiles are their workers'."""
        gone = [table for table in tables_to_delete if not tiled(table)]
        super().update(config, gone, tables_to_keep, entities_to_delete, entities_to_keep, partial)

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Delete the rows of all ordinary views; tiles are their workers'."""
        super().teardown(config, [table for table in tables if not tiled(table)], entities)


def _refuse_rows(table: Any, data: Sequence[Any]) -> None:
    source = tiled(table)
    if source is not None and len(data):
        raise DefinitionError(
            f"{len(data)} rows are to be written to {table.name!r}, a tiled view, which is made of events alone: "
            f"produce them to the topic {source.spec['source']['topic']!r}"
        )


def _of_hashes(hashes: Sequence[Hashes], replies: Sequence[Any]) -> dict[int, Filled]:
    start, now_s = 0, time.time()
    found: dict[int, Filled] = {}
    for one in hashes:
        found |= one.filled(replies[start : start + len(one.keys)], now_s)
        start += len(one.keys)
    return found


def _answer(refs: Refs, found: Mapping[int, Filled], response: Any, full_names: bool, with_versions: bool) -> None:
    """Put what was found into Feast's response, in the order of what was asked."""
    for place, (view, features) in enumerate(refs):
        name = view.projection.name_to_use()
        fill(response, [f"{name}__{feature}" if full_names else feature for feature in features], found[place])
        present = sum(statuses.count(PRESENT) for statuses in found[place].statuses)
        track_feature_statuses(view.name, present, sum(map(len, found[place].statuses)) - present)
        if with_versions:
            _note_version(view, response)


def _note_version(view: Any, response: Any) -> None:
    name = view.projection.name_alias or view.projection.name
    if name not in [noted.name for noted in response.metadata.feature_view_metadata]:
        version = getattr(view, "current_version_number", 0) or 0
        response.metadata.feature_view_metadata.add(name=name, version=version)


def redis_url(config: HeadraceOnlineStoreConfig) -> str:
    """The URL of the Redis that Feast's ``connection_string`` names. Raises SettingsError for sentinels."""
    if config.redis_type == RedisType.redis_sentinel:
        raise SettingsError("with redis_type redis_sentinel the Redis of the tiles has to be named: set redis_url")
    nodes, options = RedisOnlineStore._parse_connection_string(config.connection_string)
    user, password = (quote(str(options.get(name, "")), safe="") for name in ("username", "password"))
    login = f"{user}:{password}@" if "password" in options else ""
    is_cluster = config.redis_type == RedisType.redis_cluster
    scheme = ("rediss" if options.get("ssl") else "redis") + ("+cluster" if is_cluster else "")
    address = f"{scheme}://{login}{nodes[0]['host']}:{nodes[0].get('port', 6379)}"
    return address if is_cluster else f"{address}/{options.get('db', 0)}"
