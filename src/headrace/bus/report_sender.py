"""Sends reports of a process about itself. What Kafka does not take is gone: a newer report has more to say."""

from __future__ import annotations

import os
import socket
import uuid
from typing import TYPE_CHECKING

import msgspec
import structlog

from headrace.base.background_loop import BackgroundLoop
from headrace.base.times import SECOND
from headrace.bus import heartbeats, kafka_clients
from headrace.bus.heartbeats import EVERY_US
from headrace.bus.missing_rights import missing_right

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError, Message

    from headrace.bus.heartbeats import Heartbeat

_LIFE_MS, _LAST_S, _MOST = 5_000, 1.0, 1_000
"""A report that was not delivered within this time is dropped. The end of the process waits for its last one so long.
So many reports wait at most."""
logger = structlog.get_logger(__name__)


def process_name() -> str:
    """Return a new name for this process: its host, its number, and some letters, as numbers come again."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"


class ReportSender:
    """Sends reports to one topic. It never waits and never raises, and makes no topic. Safe from any thread.

    A report is not worth a wait: without the topic, the right to write to it, or a broker, it is dropped. The first
    refusal of a kind is logged.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._topic = topic
        self._refused: int | None = None
        self._producer = kafka_clients.producer(
            bootstrap_servers,
            {
                "acks": 1,
                "linger.ms": 5,
                "message.timeout.ms": _LIFE_MS,
                "queue.buffering.max.messages": _MOST,
                "allow.auto.create.topics": False,
            },
        )

    def send(self, key: bytes, value: bytes) -> None:
        """Send a report soon."""
        from confluent_kafka import KafkaException  # noqa: PLC0415

        try:
            self._producer.produce(self._topic, value, key, on_delivery=self._delivered)
        except BufferError:  # Kafka is away, and earlier ones wait
            pass
        except KafkaException as error:  # it is too large, or the client has given the topic up
            self._delivered(error.args[0])
        self._producer.poll(0)

    def _delivered(self, error: KafkaError | None, _: Message | None = None) -> None:
        code = None if error is None else error.code()
        if error is not None and code != self._refused:
            said = error.str() + missing_right(error, "Write", self._topic)
            logger.warning("a report is not on the bus", topic=self._topic, error=said)
        self._refused = code

    def close(self) -> None:
        """Wait a second at most until everything is on the bus."""
        self._producer.flush(_LAST_S)


class HeartbeatSender:
    """Sends the heartbeats of a process, in a thread of its own: every five seconds, and when something has changed.

    ``state`` returns the heartbeat as it is now. It is called from any thread.
    """

    def __init__(self, reports: ReportSender, key: str, state: Callable[[], Heartbeat]) -> None:
        self._reports, self._key, self._state = reports, key.encode(), state
        self._loop = BackgroundLoop(f"heartbeats {key}", self.beat, pause_s=EVERY_US / SECOND)

    def start(self) -> None:
        """Send the first heartbeat now, and the others in their time."""
        self.beat()
        self._loop.start()

    def beat(self) -> None:
        """Send a heartbeat now, because something has changed."""
        self._reports.send(self._key, heartbeats.encode(self._state()))

    def stop(self) -> None:
        """Say that the process ends in order. It waits a second at most."""
        self._loop.stop(_LAST_S)
        self._reports.send(self._key, heartbeats.encode(msgspec.structs.replace(self._state(), stopped=True)))
        self._reports.close()
