"""A steady load of payments as they happen; usage: python -m benchmarks.load TASK (a JSON :class:`Load`)."""

from __future__ import annotations

import itertools
import sys
import time
from datetime import UTC, datetime

import msgspec
import numpy as np
from confluent_kafka import Producer

from .workload import MERCHANTS, payload

STEP_S = 0.005
SEED = 11


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """``rate`` events a second to a topic, by ``users`` users, until stopped. ``folder`` is the process's own."""

    servers: str
    topic: str
    folder: str
    rate: int
    users: int = 10_000


def main(load: Load) -> None:
    """Produce in steps of 5 ms; a step that comes late is made up for."""
    producer = Producer({"bootstrap.servers": load.servers, "linger.ms": 2, "queue.buffering.max.messages": 500_000})
    users = itertools.cycle(np.random.default_rng(SEED).integers(0, load.users, 1 << 20).tolist())
    started, sent = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - started) * load.rate)
        now = datetime.now(UTC).isoformat()
        for number in range(sent, due):
            user = next(users)
            producer.produce(load.topic, payload(user, now, 1.0, number % MERCHANTS), b"user-%d" % user)
        sent = due
        producer.poll(0)
        time.sleep(STEP_S)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Load))
