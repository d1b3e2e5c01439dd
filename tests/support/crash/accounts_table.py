"""A table with upserts, tombstones and garbage, a worker of it that may be killed, and the loop to compare it with."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.table import Table
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from tests.support.crash.worker import Setting, work_on

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

START = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
STEP_MS, PARTITIONS = 10, 2
ACCOUNTS = range(60)


class Row(Event):
    """A row of the table."""

    account: int
    cents: int
    is_open: bool | None = None


def accounts(namespace: str) -> Table:
    """The table, with a topic of its own for each test."""
    return Table(f"{namespace}.accounts", Row, key="account")


def newest(namespace: str) -> FeatureView:
    """The view of the newest rows."""
    entity = Entity("account", keys={"account": int})
    return FeatureView("newest", entity, accounts(namespace), features=["cents", "is_open"])


class SentVersion(NamedTuple):
    """A record as it was produced."""

    partition: int
    timestamp_ms: int
    account: int
    value: bytes | None


def sent_versions(count: int) -> list[SentVersion]:
    """Seeded records: each fifth is a tombstone, each fiftieth garbage; an account may be in both partitions."""
    choose, sent = random.Random(6), list[SentVersion]()
    for number in range(count):
        account = choose.choice(ACCOUNTS)
        value: bytes | None = json.dumps(
            {"account": account, "cents": number, "is_open": choose.choice([True, False, None])}
        ).encode()
        if choose.random() < 1 / 5:
            value = None
        elif choose.random() < 1 / 50:
            value = b"{"
        at_ms = epoch_us(START) // 1_000 + number * STEP_MS - choose.choice([0, 0, 500])
        sent.append(SentVersion(choose.randrange(PARTITIONS), at_ms, account, value))
    return sent


def newest_rows(sent: Sequence[SentVersion]) -> dict[int, list[Any]]:
    """The columns of each account, by a plain loop."""
    found: dict[int, tuple[tuple[int, int, int], list[Any]]] = {}
    clocks, offsets = [0] * PARTITIONS, [0] * PARTITIONS
    for each in sent:
        clocks[each.partition] = max(clocks[each.partition], each.timestamp_ms)
        place = clocks[each.partition], each.partition, offsets[each.partition]
        offsets[each.partition] += 1
        if each.value == b"{" or place < found.get(each.account, (place, []))[0]:
            continue
        row = json.loads(each.value) if each.value else {"cents": None, "is_open": None}
        found[each.account] = place, [row["cents"], row["is_open"]]
    return {account: found[account][1] if account in found else [None, None] for account in ACCOUNTS}


def work_on_accounts(setting: Setting, orders: Connection) -> None:
    """Run a worker until SIGTERM or death."""
    view = newest(setting.namespace)
    work_on(setting, orders, view, FeatureService("newest", [view]))
