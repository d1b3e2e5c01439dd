"""Producing: ordered, idempotent, with bounded memory and a clear error at the bound."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.bus.event import encode
from headrace.errors import BusUnavailableError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

    from headrace.bus.stream import Stream


class EventProducer:
    """Produces events and control messages. Not for several threads at once.

    ``linger_ms`` trades latency for throughput. A full queue waits up to ``timeout_s``, then BusUnavailableError.
    """

    def __init__(self, bootstrap_servers: str, *, linger_ms: float = 1.0, timeout_s: float = 30.0) -> None:
        from confluent_kafka import Producer  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._servers = bootstrap_servers
        self._timeout_s = timeout_s
        self._failed: list[str] = []
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "log_level": 2,  # connections come and go: what matters is raised or returned
                "enable.idempotence": True,
                "linger.ms": linger_ms,
                "message.timeout.ms": 0,  # the queue is the bound, not time: a broker that is away loses nothing
                "queue.buffering.max.kbytes": 262_144,
                "queue.buffering.max.messages": 500_000,
            }
        )

    def send(self, stream: Stream, event: msgspec.Struct, *, timestamp_ms: int = 0) -> None:
        """Produce an event to its stream, keyed by the stream's key fields. ``timestamp_ms`` 0 is now."""
        key = "|".join(str(getattr(event, name)) for name in stream.key_fields).encode() if stream.key_fields else None
        self.put(stream.topic, key, encode(event), timestamp_ms=timestamp_ms)

    def put(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        *,
        timestamp_ms: int = 0,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Produce bytes. Raises BusUnavailableError when the queue stays full or an earlier message was not sent."""
        from confluent_kafka import KafkaException  # noqa: PLC0415

        more: dict[str, Any] = {"timestamp": timestamp_ms} if timestamp_ms else {}
        if headers:
            more["headers"] = list(headers.items())
        self._producer.poll(0)
        self._check()
        try:
            self._producer.produce(topic, value, key, on_delivery=self._delivered, **more)
        except BufferError:
            self._producer.poll(self._timeout_s)
            self._retry(topic, key, value, more)
        except KafkaException as error:
            size = len(value or b"") + len(key or b"")
            message = f"a message of {size} bytes to {topic!r} cannot be produced: {error}"
            raise TerminalError(message) from error

    def _retry(self, topic: str, key: bytes | None, value: bytes | None, more: dict[str, Any]) -> None:
        try:
            self._producer.produce(topic, value, key, on_delivery=self._delivered, **more)
        except BufferError as error:
            message = (
                f"the producer's queue to {self._servers} is full for {self._timeout_s:.0f} s: the broker takes nothing"
            )
            raise BusUnavailableError(message) from error

    def flush(self) -> None:
        """Wait until everything is acknowledged. Raises BusUnavailableError."""
        left = self._producer.flush(self._timeout_s)
        self._check()
        if left:
            message = f"{left} messages are not acknowledged by {self._servers} after {self._timeout_s:.0f} s"
            raise BusUnavailableError(message)

    def _delivered(self, error: Any, message: Any) -> None:
        if error is not None:
            self._failed.append(f"{message.topic()}: {error}")

    def _check(self) -> None:
        if self._failed:
            failed, self._failed = self._failed, []
            message = f"{len(failed)} messages could not be produced to {self._servers}, first {failed[0]}"
            raise BusUnavailableError(message)
