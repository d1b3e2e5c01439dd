"""Reads a low-rate topic from its end on, in a loop of its own, and hands each message on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from headrace.base.background_loop import BackgroundLoop
from headrace.base.background_tasks import TASKS, BackgroundTasks
from headrace.bus.tail import TopicTail
from headrace.bus.unreadable_records import readable
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_POLL_S, _STOP_S = 0.2, 2.0
T = TypeVar("T")


class TopicReader(Generic[T]):
    """Gives ``take`` each message that comes to a topic after :meth:`start`, in order.

    A record that ``decode`` cannot read is left out. If the topic cannot be read any further, for example because it
    was made anew, it is opened again and read from its end. Its state is the task ``<topic> reader``.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        decode: Callable[[bytes | None], T],
        take: Callable[[T], None],
        tasks: BackgroundTasks = TASKS,
    ) -> None:
        self._servers, self._topic, self._decode, self._take = bootstrap_servers, topic, decode, take
        self._tail: TopicTail | None = None
        self._loop = BackgroundLoop(f"{topic} reader", self._step, tasks=tasks)

    def start(self) -> None:
        """Begin to read."""
        self._loop.start()

    def stop(self) -> None:
        """End, and wait a little for the message that is handed on just now."""
        self._loop.stop(_STOP_S)

    def _step(self) -> None:
        if self._tail is None:
            self._tail = TopicTail(self._servers, [self._topic], from_beginning=False)
        for message in readable(self._tail.poll(_POLL_S), lambda record: self._decode(record.value())):
            self._take(message)
        if self._tail.failure is not None:
            failure, tail, self._tail = self._tail.failure, self._tail, None
            tail.close()
            raise BusUnavailableError(f"topic {self._topic!r} cannot be read any further: {failure}")
