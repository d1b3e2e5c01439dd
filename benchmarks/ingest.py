"""How fast a worker is: Kafka to Redis and Delta, exactly once, against merely consuming and decoding the same topic.

usage: python benchmarks/ingest.py [EVENTS]     (default 200,000; prints a table and writes bench.json)

60 s windows over 10,000 users: sum, count, max; four partitions, one worker, real Kafka and Valkey beside it.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from headrace import Count, Entity, Event, FeatureView, LocalServices, Max, Stream, Sum
from headrace.bus.codec import Decoder
from headrace.bus.consumer import BatchConsumer
from headrace.bus.producer import EventProducer
from headrace.bus.topics import FOR_EVER, OBSERVATIONS, TopicPlan, dead_letters, ensure_topics
from headrace.features.log import EventLog
from headrace.features.redis_store import RedisOnlineStore
from headrace.streams.plane import DataPlane, PlaneConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PARTITIONS, USERS, BATCH = 4, 10_000, 20_000
START = datetime(2026, 1, 1, tzinfo=UTC)


class Payment(Event):
    """One payment."""

    user_id: str
    ts: datetime
    amount: float
    merchant: str


payments = Stream("bench.payments", Payment, event_time="ts", key="user_id", lateness="1m")
spending = FeatureView(
    "spending",
    entity=Entity("user_id"),
    source=payments,
    windows=["60s"],
    features={"n": Count(), "amount": Sum("amount"), "largest": Max("amount")},
)


class FromTheStart:
    """Reads every partition from its beginning."""

    def assigned(self, _topic: str, _partition: int) -> int | None:
        """From offset 0."""
        return 0

    def revoked(self, _partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing to finish."""

    lost = revoked

    def failed(self, topic: str, partition: int, error: str) -> None:
        """End the benchmark."""
        raise RuntimeError(f"{topic}-{partition}: {error}")


def main(events: int) -> None:
    """Run and report."""
    with tempfile.TemporaryDirectory() as folder, LocalServices(folder) as services:
        servers = services.bootstrap_servers
        ensure_topics(
            servers,
            [
                TopicPlan(payments.topic, PARTITIONS, FOR_EVER),
                TopicPlan(dead_letters(payments.topic)),
                TopicPlan(OBSERVATIONS),
            ],
        )
        produce(servers, events)
        decode_s = timed(lambda: decode(servers, events))
        ingest_s = timed(lambda: ingest(servers, services.redis_url, folder, events))
    result = {
        "events": events,
        "decode_per_s": round(events / decode_s),
        "ingest_per_s": round(events / ingest_s),
        "ratio_to_decode": round(decode_s / ingest_s, 3),
    }
    Path("bench.json").write_text(json.dumps({"ingest": result}, indent=2) + "\n")
    for name, value in result.items():
        print(f"{name:>18}  {value:>12,}")


def produce(servers: str, events: int) -> None:
    """Seeded events, 10,000 a second of event time."""
    producer, chance = EventProducer(servers, linger_ms=50), random.Random(7)
    for index in range(events):
        at = START + timedelta(microseconds=index * 100)
        payment = Payment(f"user-{chance.randrange(USERS)}", at, round(chance.expovariate(0.02), 2), "m1")
        producer.send(payments, payment, timestamp_ms=int(at.timestamp() * 1_000))
    producer.flush()


def timed(action: Callable[[], None]) -> float:
    """Wall seconds."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def decode(servers: str, events: int) -> None:
    """Consume and decode to columns, and nothing else."""
    consumer = BatchConsumer(servers, f"bench-{uuid.uuid4().hex}", [payments.topic], FromTheStart())
    decoder, seen = Decoder(payments), 0
    while seen < events:
        messages = consumer.poll(BATCH, 1.0)
        decoded, _, _ = decoder.decode([message.value() for message in messages])
        decoder.columns(decoded)
        seen += len(messages)
    consumer.close()


def ingest(servers: str, redis_url: str, folder: str, events: int) -> None:
    """The whole data plane, until every event is in Redis and in the log."""
    store, log = RedisOnlineStore(redis_url), EventLog(Path(folder) / "events")
    config = PlaneConfig(servers, group=f"bench-{uuid.uuid4().hex}", batch_rows=BATCH)
    plane = DataPlane(
        config,
        [payments],
        [spending.spec],
        store,
        log,
        new_owner=lambda: uuid.uuid4().bytes,
        monotonic=time.monotonic,
    )
    thread = threading.Thread(target=plane.run)
    thread.start()
    view = f"{spending.name}@{spending.version}"
    while sum(cursor.next_offset for cursor in store.cursors([view])[0].values()) < events:
        time.sleep(0.01)
    plane.stop()
    thread.join()
    if log.read(payments.topic).height != events:
        raise RuntimeError("the event log is not complete")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)
