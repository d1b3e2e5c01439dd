"""The reading half of the online store in Redis, awaited: what it asks and understands is in redis_reads.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.features.online.redis.async_clients import AsyncStoreClient, async_client
from headrace.features.online.redis.cluster_client import CLUSTER_SHARDS
from headrace.features.online.redis.key_names import KeyNames
from headrace.features.online.redis.lookup_commands import ReadRequest, get_document, look_up, look_up_with, telling
from headrace.features.online.redis.retrying_call import CallLimits
from headrace.features.online.redis.url import check_url, of_node

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from headrace.features.online.store import StoredFields
T = TypeVar("T")


class AsyncRedisOnlineStore:
    """What look-ups ask of a store. Each event loop has connections of its own, which end with it.

    ``asyncio.run`` sees to that, and whatever else calls ``loop.shutdown_asyncgens()``; of a loop that is closed
    without it the connections are garbage as soon as another loop asks.

    URLs, options and errors are those of :class:`~headrace.features.online.redis.redis_store.RedisOnlineStore`.
    ``pool_size`` counts for each loop.
    """

    def __init__(
        self,
        url: str,
        namespace: str = "headrace",
        *,
        timeout_s: float = 5.0,
        retry_s: float = 1.0,
        pool_size: int | None = None,
    ) -> None:
        check_url(url)
        self._url, self._patience, self._pool_size = url, CallLimits(timeout_s, retry_s), pool_size
        self._keys = KeyNames(namespace, 1 if of_node(url) == url else CLUSTER_SHARDS)
        self._links: dict[asyncio.AbstractEventLoop, tuple[AsyncStoreClient, AsyncGenerator[None]]] = {}

    async def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[StoredFields]:
        """See :class:`~headrace.features.online.store.OnlineStore`."""
        return await self._asked(look_up(self._keys, wanted))

    async def look_up_with(
        self, document: str, wanted: Sequence[tuple[str, Sequence[bytes]]]
    ) -> tuple[dict[str, Any] | None, list[StoredFields]]:
        """See :class:`~headrace.features.online.store.OnlineStore`."""
        return await self._asked(look_up_with(self._keys, document, wanted))

    async def get_document(self, name: str) -> dict[str, Any] | None:
        """See :class:`~headrace.features.online.store.OnlineStore`."""
        return await self._asked(get_document(self._keys, name))

    async def _asked(self, question: ReadRequest[T]) -> T:
        if not question.commands:
            return question.answer([])
        link = await self._link()
        with telling(self._url):
            return question.answer(await link.run(question.commands))

    async def _link(self) -> AsyncStoreClient:
        loop = asyncio.get_running_loop()
        if loop not in self._links:
            self._forget_closed_loops()
            link = async_client(self._url, self._patience, self._pool_size)
            life = self._life(loop, link)
            self._links[loop] = link, life
            await anext(life)
        return self._links[loop][0]

    async def _life(self, loop: asyncio.AbstractEventLoop, link: AsyncStoreClient) -> AsyncGenerator[None]:
        """Ends the link when it is closed, which loops do to their generators before they end."""
        try:
            yield
        finally:
            self._links.pop(loop, None)
            await link.close()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._links):  # of other threads too
            if loop.is_closed():
                self._links.pop(loop, None)

    async def close(self) -> None:
        """Give this loop's connections back."""
        _, life = self._links.get(asyncio.get_running_loop(), (None, None))
        if life is not None:
            await life.aclose()
