"""Seeded payments: the records on a topic, and what must come out of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from confluent_kafka import Producer

from headrace.bus.kafka_clients import admin
from headrace.bus.topics import retained_offsets
from headrace.streams.worker import make_topics

from .definitions import payments

if TYPE_CHECKING:
    from collections.abc import Iterator

START_US = 1_767_225_600_000_000  # 2026-01-01T00:00:00Z
LATE_US = 60_000_000
MERCHANTS = 100


@dataclass(frozen=True)
class Workload:
    """``events`` payments by ``users`` users, ``per_second`` of them a second of event time.

    User r pays with a weight of r^-zipf (0: all alike). A share of ``late`` comes up to a minute after its time.
    """

    name: str
    events: int
    users: int = 10_000
    partitions: int = 4
    zipf: float = 0.0
    late: float = 0.0
    per_second: int = 10_000
    seed: int = 7

    @property
    def topic(self) -> str:
        """Its topic."""
        return f"bench.{self.name}"

    @property
    def end_us(self) -> int:
        """The time of the last record: no event is later."""
        return START_US + (self.events - 1) * 1_000_000 // self.per_second

    @cached_property
    def rows(self) -> Rows:
        """The events as columns; made once."""
        chance = np.random.default_rng(self.seed)
        weights = np.arange(1, self.users + 1) ** -self.zipf
        users = np.searchsorted(np.cumsum(weights) / weights.sum(), chance.random(self.events))
        stamps_us = START_US + np.arange(self.events) * 1_000_000 // self.per_second
        behind = np.where(chance.random(self.events) < self.late, chance.integers(0, LATE_US, self.events), 0)
        amounts = np.round(chance.exponential(50.0, self.events), 2)
        return Rows(np.minimum(users, self.users - 1), stamps_us, stamps_us - behind, amounts)


@dataclass(frozen=True)
class Rows:
    """Columns of events in the order in which they are produced; times in microseconds."""

    users: np.ndarray
    stamps_us: np.ndarray
    times_us: np.ndarray
    amounts: np.ndarray

    def records(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Key, value and timestamp (ms) of each record."""
        texts = np.datetime_as_string(self.times_us.astype("datetime64[us]"), unit="us", timezone="UTC")
        for number, (user, time, amount, stamp_us) in enumerate(
            zip(self.users.tolist(), texts.tolist(), self.amounts.tolist(), self.stamps_us.tolist(), strict=True)
        ):
            yield b"user-%d" % user, payload(user, time, amount, number % MERCHANTS), stamp_us // 1_000

    def window(self, users: int, at_us: int, length_us: int, tile_us: int) -> Totals:
        """What each user's window at a time holds, by plain counting: the law of docs/reference."""
        k, newest = self.times_us // tile_us, at_us // tile_us
        alive = (k > newest - length_us // tile_us) & (k <= newest)
        who, amounts = self.users[alive], self.amounts[alive]
        largest = np.full(users, -np.inf)
        np.maximum.at(largest, who, amounts)
        tiles = np.unique(who * (1 << 40) + k[alive] % (1 << 40))
        counts = np.bincount(who, minlength=users)
        return Totals(counts, np.bincount(who, amounts, minlength=users), largest, len(tiles))


@dataclass(frozen=True)
class Totals:
    """Count, sum and max by user, and the number of (user, tile) that are not empty."""

    counts: np.ndarray
    sums: np.ndarray
    largest: np.ndarray
    tiles: int


def payload(user: int, time: str, amount: float, merchant: int) -> bytes:
    """A payment's bytes."""
    return f'{{"user_id":"user-{user}","ts":"{time}","amount":{amount:.2f},"merchant":"merchant-{merchant}"}}'.encode()


def fill(servers: str, workload: Workload) -> None:
    """Make the topic and put all records on it, with their own timestamps. RuntimeError unless all are there."""
    make_topics(servers, [payments(workload.topic)], workload.partitions, namespace="headrace", replay=True)
    producer = Producer({
        "bootstrap.servers": servers,
        "linger.ms": 50,
        "batch.size": 1 << 20,
        "queue.buffering.max.messages": 500_000,
    })  # fmt: skip
    for key, value, stamp_ms in workload.rows.records():
        while True:
            try:
                producer.produce(workload.topic, value, key, timestamp=stamp_ms)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
    there = size(servers, workload.topic, workload.partitions)
    if there != workload.events:
        raise RuntimeError(f"{workload.topic} has {there} records, wanted {workload.events}")


def size(servers: str, topic: str, partitions: int) -> int:
    """How many records a topic took so far."""
    client = admin(servers)
    return sum(retained_offsets(client, topic, partition).ends for partition in range(partitions))
