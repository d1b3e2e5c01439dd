"""A stream whose producer sends payments twice, a worker of it that may be killed, and the loop to compare it with."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Count, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from tests.support.crash.worker import Setting, work_on

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
STEP_MS, WITHIN_S, PARTITIONS = 10, 3, 2
USERS = [f"u{n}" for n in range(20)]


class OncePaid(Event):
    """A payment that may be there more than once."""

    payment_id: int
    user: str
    at: datetime
    cents: int


def payments(namespace: str) -> Stream:
    """The stream, with a topic of its own for each test."""
    topic = f"{namespace}.payments"
    return Stream(topic, OncePaid, event_time="at", key="payment_id", unique="payment_id", within=f"{WITHIN_S}s")


def users(namespace: str) -> FeatureView:
    """The features of a user."""
    return FeatureView(
        "user",
        entity=Entity("user", str),
        source=payments(namespace),
        windows=["1d"],
        features={"n": Count(), "cents": Sum("cents")},
    )


def service(namespace: str) -> FeatureService:
    """What look-ups ask for."""
    return FeatureService("risk", [users(namespace)])


class SentPayment(NamedTuple):
    """A record as it was produced."""

    partition: int
    timestamp_ms: int
    payment_id: int
    user: str
    cents: int

    @property
    def value(self) -> bytes:
        """Its bytes."""
        fields = {"payment_id": self.payment_id, "user": self.user, "at": START.isoformat(), "cents": self.cents}
        return json.dumps(fields).encode()


def sent_payments(count: int) -> list[SentPayment]:
    """Seeded payments: each third repeats one of the last 600, some of them after more than the stream's time."""
    choose, sent = random.Random(5), list[SentPayment]()
    for number in range(count):
        at = epoch_us(START) // 1_000 + number * STEP_MS
        if sent and choose.random() < 1 / 3:
            again = choose.choice(sent[-600:])
            sent.append(again._replace(timestamp_ms=at))
        else:
            sent.append(SentPayment(number % PARTITIONS, at, number, choose.choice(USERS), choose.randrange(1_000)))
    return sent


def verdicts(sent: list[SentPayment]) -> list[str]:
    """The verdict of each record, by a plain loop."""
    seen, found = dict[int, int](), []
    for each in sent:
        before = seen.get(each.payment_id)
        is_again = before is not None and each.timestamp_ms - before <= WITHIN_S * 1_000
        found.append("duplicate" if is_again else "accepted")
        seen[each.payment_id] = each.timestamp_ms
    return found


def work_on_payments(setting: Setting, orders: Connection) -> None:
    """Run a worker until SIGTERM or death."""
    work_on(setting, orders, users(setting.namespace), service(setting.namespace))
