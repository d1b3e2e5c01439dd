"""The reading half of the online store in Redis, for asyncio. Its commands are those of lookup_commands.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

from headrace.features.online.redis.async_clients import AsyncStoreClient, async_client
from headrace.features.online.redis.cluster_client import CLUSTER_SHARDS
from headrace.features.online.redis.key_names import KeyNames
from headrace.features.online.redis.lookup_commands import (
    ReadRequest,
    get_documents,
    look_up,
    look_up_with,
    typed_errors,
)
from headrace.features.online.redis.store_options import CallLimits, StoreOptions
from headrace.features.online.redis.url import check_url, of_node

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from headrace.features.online.store import StoredFields, WantedKeys
T = TypeVar("T")


class AsyncRedisOnlineStore:
    """The reads that look-ups need. Each event loop has connections of its own, which end with the loop.

    ``asyncio.run`` ends them, and so does everything else that calls ``loop.shutdown_asyncgens()``. If a loop was
    closed without that call, its connections are dropped as soon as another loop reads.

    URLs, options and errors are those of :class:`~headrace.features.online.redis.redis_store.RedisOnlineStore`.
    ``pool_size`` counts for each loop.
    """

    def __init__(self, url: str, namespace: str = "headrace", **options: Unpack[StoreOptions]) -> None:
        check_url(url)
        self._url, self._limits = url, CallLimits.from_options(**options)
        self._keys = KeyNames(namespace, 1 if of_node(url) == url else CLUSTER_SHARDS)
        self._clients: dict[asyncio.AbstractEventLoop, tuple[AsyncStoreClient, AsyncGenerator[None]]] = {}

    async def look_up(self, wanted: WantedKeys) -> list[StoredFields]:
        """Await the replies to the commands that the Redis store sends for a look-up."""
        return await self._read(look_up(self._keys, wanted))

    async def look_up_with(
        self, documents: Sequence[str], wanted: WantedKeys
    ) -> tuple[list[dict[str, Any] | None], list[StoredFields]]:
        """Await documents and fields, which are asked for together."""
        return await self._read(look_up_with(self._keys, documents, wanted))

    async def get_documents(self, names: Sequence[str]) -> list[dict[str, Any] | None]:
        """Await the documents. One GET is sent for each name, all together."""
        return await self._read(get_documents(self._keys, names))

    async def _read(self, request: ReadRequest[T]) -> T:
        if not request.commands:
            return request.parse([])
        client = await self._client()
        with typed_errors(self._url):
            return request.parse(await client.run(request.commands))

    async def _client(self) -> AsyncStoreClient:
        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._forget_closed_loops()
            client = async_client(self._url, self._limits)
            life = self._life(loop, client)
            self._clients[loop] = client, life
            await anext(life)
        return self._clients[loop][0]

    async def _life(self, loop: asyncio.AbstractEventLoop, client: AsyncStoreClient) -> AsyncGenerator[None]:
        """Close the client when this generator is closed. A loop closes its generators before it ends."""
        try:
            yield
        finally:
            self._clients.pop(loop, None)
            await client.close()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._clients):  # of other threads too
            if loop.is_closed():
                self._clients.pop(loop, None)

    async def close(self) -> None:
        """Give this loop's connections back."""
        _, life = self._clients.get(asyncio.get_running_loop(), (None, None))
        if life is not None:
            await life.aclose()
