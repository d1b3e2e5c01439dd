"""The reading half of the online store in Redis, awaited: keys, commands and answers are those of redis_store.py."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.features.redis_link import Script
from headrace.features.redis_store import RedisOnlineStore

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from headrace.features.online import Answer


class AsyncRedisOnlineStore:
    """What look-ups ask of a store. Each event loop has connections of its own, which end with it.

    ``asyncio.run`` sees to that, and whatever else calls ``loop.shutdown_asyncgens()``; of a loop that is closed
    without it the connections are garbage as soon as another loop asks.

    On a cluster a look-up waits in a thread. Methods raise OnlineStoreUnavailableError when the store does not answer
    within ``timeout_s``, and SettingsError where the server is not of the kind that the URL says.
    """

    def __init__(self, url: str, namespace: str = "headrace", *, timeout_s: float = 5.0) -> None:
        self._url, self._timeout_s = url, timeout_s
        self._plain = RedisOnlineStore(url, namespace, timeout_s=timeout_s)
        self._in_threads = self._plain.shards > 1
        self._is_checked = False
        # Any: redis-py's types tell neither replies from awaitables nor that keys may be bytes.
        self._clients: dict[asyncio.AbstractEventLoop, tuple[Any, AsyncGenerator[None]]] = {}

    async def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[Answer]:
        """See :class:`~headrace.features.online.OnlineStore`."""
        if self._in_threads:
            return await asyncio.to_thread(self._plain.look_up, wanted)
        commands, answers = self._plain.asked(wanted)
        return answers([await self._ask(words) for _, words in commands])

    async def get_document(self, name: str) -> dict[str, Any] | None:
        """See :class:`~headrace.features.online.OnlineStore`."""
        if self._in_threads or not self._is_checked:
            found = await asyncio.to_thread(self._plain.get_document, name)
            self._is_checked = True
            return found
        data = await self._ask(self._plain.document(name))
        return None if data is None else msgspec.json.decode(data)

    async def _ask(self, words: Sequence[Any]) -> Any:
        from redis.exceptions import NoScriptError  # noqa: PLC0415 - keeps `import headrace.serving` light

        client = await self._client()
        with self._plain.telling():
            try:
                return await client.execute_command(*words)
            except NoScriptError:
                await client.script_load(Script.text(words))
                return await client.execute_command(*words)

    async def _client(self) -> Any:
        from redis.asyncio import Redis  # noqa: PLC0415

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._forget_closed_loops()
            timeout_s = self._timeout_s
            client = Redis.from_url(self._url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
            life = self._life(loop, client)
            self._clients[loop] = client, life
            await anext(life)
        return self._clients[loop][0]

    async def _life(self, loop: asyncio.AbstractEventLoop, client: Any) -> AsyncGenerator[None]:
        """Ends the client when it is closed, which loops do to their generators before they end."""
        try:
            yield
        finally:
            self._clients.pop(loop, None)
            await client.aclose()

    def _forget_closed_loops(self) -> None:
        for loop in list(self._clients):  # of other threads too
            if loop.is_closed():
                self._clients.pop(loop, None)

    async def close(self) -> None:
        """Give this loop's connections back."""
        self._plain.close()
        _, life = self._clients.get(asyncio.get_running_loop(), (None, None))
        if life is not None:
            await life.aclose()
