"""Sends snapshots to all viewers as server-sent events. Each snapshot is encoded once, whoever looks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.base.background_tasks import BackgroundTask

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

_EVERY_S = 1.0
_LONGEST = 600
"""The frames of one stream. Then it ends, and the browser asks for a new one by itself."""


class SnapshotFeed:
    """Calls ``read`` once a second while somebody looks, and gives its bytes to each viewer as one frame.

    A viewer that reads slowly misses frames, and then gets the newest one. A ``read`` that raises is logged, and tried
    again: meanwhile the pages say for how long they have heard nothing.
    """

    def __init__(self, read: Callable[[], bytes], most: int, every_s: float = _EVERY_S) -> None:
        self._read, self._most, self._every_s = read, most, every_s
        self._changed = asyncio.Condition()
        self._number, self._frame = 0, b""
        self.viewers = 0

    @property
    def is_full(self) -> bool:
        """Whether there are as many viewers as there may be."""
        return self.viewers >= self._most

    async def run(self) -> None:
        """Make frames, until it is cancelled."""
        task = BackgroundTask("snapshots of the page")
        while True:
            if self.viewers:
                with task.attempt():
                    await self._make()
            await asyncio.sleep(self._every_s)

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield the frames of one viewer, the first one at once."""
        self.viewers += 1
        try:
            yield b"retry: 2000\n\n"
            if self.viewers == 1 or not self._frame:
                await self._make()
            yield self._frame
            for _ in range(_LONGEST):
                yield await self._next(self._number)
        finally:
            self.viewers -= 1

    async def _next(self, seen: int) -> bytes:
        async with self._changed:
            await self._changed.wait_for(lambda: self._number > seen)
            return self._frame

    async def _make(self) -> None:
        content = await asyncio.to_thread(self._read)
        async with self._changed:
            self._number += 1
            self._frame = b"id: %d\ndata: %s\n\n" % (self._number, content)
            self._changed.notify_all()
