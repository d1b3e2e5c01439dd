"""The online store for Feast: tiled views come from tiles, all other views from Feast's own Redis layout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote

from feast.infra.online_stores.helpers import _mmh3
from feast.infra.online_stores.redis import (
    RedisOnlineStore,
    RedisOnlineStoreConfig,
    RedisType,
    _versioned_fv_name,
)
from feast.protos.feast.types.Value_pb2 import Value
from pydantic import Field

from headrace.errors import DefinitionError, SettingsError
from headrace.feast.answer import cells
from headrace.feast.lookup import (
    EntityGroup,
    FeastLookup,
    HookArguments,
    OrdinaryViewHashes,
    columns_of,
    native,
    of_tiles,
)
from headrace.feast.source import tiled
from headrace.serving.features import FeatureClient, Status

if TYPE_CHECKING:
    from headrace.feast.answer import FilledView
    from headrace.feast.source import HeadraceSource


class HeadraceOnlineStoreConfig(RedisOnlineStoreConfig):
    """The settings of Feast's Redis store, and of the Redis that has the tiles."""

    type: Literal["headrace.feast.HeadraceOnlineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "headrace.feast.HeadraceOnlineStore"
    )
    """Online store type selector."""
    redis_url: str | None = Field(default=None, repr=False)
    """The Redis of the tiles, redis://… Without it, the Redis of ``connection_string``."""
    namespace: str = "headrace"
    """The namespace of the project that defines the views."""
    heartbeat_bound: str = "5s"
    """Tiled values are OUTSIDE_MAX_AGE if the worker's heartbeat is older than this."""
    clock: Literal["wall", "stream"] = "wall"
    """The time for tiled views: this machine's or, for replayed history, the largest clock of a partition."""


class HeadraceOnlineStore(RedisOnlineStore):
    """Looks tiled views up with FeatureClient; reads and writes ordinary views in Feast's Redis layout.

    In both, an unknown entity is NOT_FOUND and a missing value is NULL_VALUE. A value that is older than its view's
    ``ttl`` is OUTSIDE_MAX_AGE and is returned.
    """

    def __init__(self) -> None:
        self._clients: dict[tuple[Any, ...], FeatureClient] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def _tiles(self, config: Any) -> FeatureClient:
        own: HeadraceOnlineStoreConfig = config.online_store
        where = own.redis_url, own.connection_string, own.redis_type
        identity = (where, own.namespace, own.clock, own.heartbeat_bound)
        if identity not in self._clients:
            url = own.redis_url or redis_url(own)
            options: dict[str, Any] = {"clock": "stream"} if own.clock == "stream" else {}
            self._clients[identity] = FeatureClient.from_url(
                url, own.namespace, heartbeat_bound=own.heartbeat_bound, **options
            )
        return self._clients[identity]

    async def _get_client_async(self, online_store_config: Any) -> Any:
        """Return a client of the running loop: Feast keeps one client, but a client works in one loop only."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._client_async, self._loop = None, loop
        return await super()._get_client_async(online_store_config)

    async def close(self) -> None:
        """Close the asynchronous connections."""
        client: Any = self._client_async
        self._client_async = None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    # -- get_online_features -------------------------------------------------------------------------------------------

    def _read_features_per_fv(self, config: Any, *asked: Any, **named: Any) -> None:
        """Feast's hook under ``get_online_features``."""
        lookup = self._lookup(config, HookArguments(*asked, **named))
        replies = self._read_hash_fields(config, lookup.commands) if lookup.commands else []
        lookup.answer(replies, self._of_tiles(config, lookup.tiled))

    async def _read_features_per_fv_async(self, config: Any, *asked: Any, **named: Any) -> None:
        """Feast's hook under ``get_online_features_async``, which ``feast serve`` calls."""
        lookup = self._lookup(config, HookArguments(*asked, **named))
        lookup.answer(
            *await asyncio.gather(self._replies(config, lookup.commands), self._of_tiles_async(config, lookup.tiled))
        )

    def _lookup(self, config: Any, asked: HookArguments) -> FeastLookup:
        return FeastLookup(asked, partial(self._hashes, config))

    @staticmethod
    def _compute_expected_feature_names(grouped_refs: list[Any], full_feature_names: bool) -> list[str]:
        """Feast's hook for a service with ``precompute_online``, whose rows are written in advance.

        Raises DefinitionError if the service has a tiled view.
        """
        for view, _ in grouped_refs:
            if tiled(view):
                raise DefinitionError(
                    f"a service has precompute_online=True and the tiled view {view.name!r}, whose values age with "
                    "the clock: what is computed ahead would be stale. Leave precompute_online out of the service"
                )
        names: list[str] = RedisOnlineStore._compute_expected_feature_names(grouped_refs, full_feature_names)
        return names

    def _hashes(self, config: Any, group: EntityGroup) -> OrdinaryViewHashes:
        keys = self._generate_redis_keys_for_entities(config, group.keys())
        fields = [_fields(_versioned_fv_name(view, config), tuple(features)) for _, view, features in group.refs]
        return OrdinaryViewHashes(group, keys, fields)

    async def _replies(self, config: Any, commands: Sequence[Any]) -> Sequence[Any]:
        if not commands:
            return []
        client = await self._get_client_async(config.online_store)
        async with client.pipeline(transaction=False) as pipe:
            for key, names in commands:
                pipe.hmget(key, names)
            replies: Sequence[Any] = await pipe.execute()
            return replies

    def _of_tiles(self, config: Any, groups: Sequence[EntityGroup]) -> dict[int, FilledView]:
        client = self._tiles(config) if groups else None
        return {place: filled for group in groups if client for place, filled in of_tiles(group, client).items()}

    async def _of_tiles_async(self, config: Any, groups: Sequence[EntityGroup]) -> dict[int, FilledView]:
        return await asyncio.to_thread(self._of_tiles, config, groups) if groups else {}

    # -- one view ------------------------------------------------------------------------------------------------------

    def online_read(
        self, config: Any, table: Any, entity_keys: list[Any], requested_features: list[str] | None = None
    ) -> list[tuple[datetime | None, dict[str, Any] | None]]:
        """Return the event time and the features of each entity; None and None for an unknown entity."""
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
        found = self._tiles(config).get_views(source.view, rows)
        answer = found.views[0]
        names = [*(requested or source.kinds)]
        own = zip(names, columns_of(answer, source, names), strict=True)
        columns = [cells(*column, source.kinds[name]) for name, column in own]
        return [
            (None, None)
            if status is Status.MISSING or age < 0
            else (
                found.at - timedelta(microseconds=age),
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
        """Write rows of an ordinary view. Raises DefinitionError for a tiled view, which only workers write."""
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
        """Delete the rows of ordinary views that were removed. Only workers delete tiles."""
        gone = [table for table in tables_to_delete if not tiled(table)]
        super().update(config, gone, tables_to_keep, entities_to_delete, entities_to_keep, partial)

    def teardown(self, config: Any, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Delete the rows of all ordinary views. Only workers delete tiles."""
        super().teardown(config, [table for table in tables if not tiled(table)], entities)


def _refuse_rows(table: Any, data: Sequence[Any]) -> None:
    source = tiled(table)
    if source is not None and len(data):
        raise DefinitionError(
            f"{len(data)} rows are to be written to {table.name!r}, a tiled view, which is made of events alone: "
            f"produce them to the topic {', '.join(map(repr, source.spec.topics))}"
        )


@lru_cache(maxsize=4096)
def _fields(view: str, features: tuple[str, ...]) -> Sequence[str | bytes]:
    """The names of a view's features in Feast's layout and, last, that of the row's time."""
    return [*(_mmh3(f"{view}:{feature}") for feature in features), f"_ts:{view}"]


def redis_url(config: HeadraceOnlineStoreConfig) -> str:
    """Return the URL of the Redis in Feast's ``connection_string``. Raises SettingsError for sentinels."""
    if config.redis_type == RedisType.redis_sentinel:
        raise SettingsError("with redis_type redis_sentinel the Redis of the tiles has to be named: set redis_url")
    nodes, options = RedisOnlineStore._parse_connection_string(config.connection_string)
    user, password = (quote(str(options.get(name, "")), safe="") for name in ("username", "password"))
    login = f"{user}:{password}@" if "password" in options else ""
    is_cluster = config.redis_type == RedisType.redis_cluster
    scheme = ("rediss" if options.get("ssl") else "redis") + ("+cluster" if is_cluster else "")
    address = f"{scheme}://{login}{nodes[0]['host']}:{nodes[0].get('port', 6379)}"
    return address if is_cluster else f"{address}/{options.get('db', 0)}"
