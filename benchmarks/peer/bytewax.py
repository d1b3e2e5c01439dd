"""Bytewax: batches from its Kafka source, its sliding windows folded in Python."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec
from bytewax import operators as op
from bytewax.connectors.kafka import KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.operators.windowing import EventClock, SlidingWindower, fold_window
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from .common import HOP_S, LATE_S, WINDOW_S, Results, Task, Totals

if TYPE_CHECKING:
    from collections.abc import Iterable

Item = tuple[str, tuple[int, Totals]]


class Payment(msgspec.Struct, gc=False):
    """One payment."""

    user_id: str
    ts: datetime
    amount: float


class Sink(DynamicSink[Item]):
    """Hands windows on to the results."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def build(self, _step_id: str, _worker_index: int, _worker_count: int) -> StatelessSinkPartition[Item]:
        """The only partition."""
        return Partition(self._results)


class Partition(StatelessSinkPartition[Item]):
    """Takes batches of windows."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def write_batch(self, items: list[Item]) -> None:
        """Take them."""
        self._results.take((user, window, totals) for user, (window, totals) in items)


def fold(totals: Totals, payment: Payment) -> Totals:
    """Count, sum and max with one more payment."""
    count, total, largest = totals
    amount = payment.amount
    return count + 1, total + amount, max(amount, largest)


def merge(one: Totals, other: Totals) -> Totals:
    """Of two windows; sliding windows never ask."""
    return one[0] + other[0], one[1] + other[1], max(one[2], other[2])


def flow_of(task: Task, results: Results) -> Dataflow:
    """Source, decoding, windows, sink."""
    decoder = msgspec.json.Decoder(Payment)
    seen = False

    def decode(messages: list[KafkaSourceMessage]) -> Iterable[tuple[str, Payment]]:
        nonlocal seen
        if not seen and messages:
            seen = True
            task.reached("first")
        payments = map(decoder.decode, [message.value for message in messages])
        return [(payment.user_id, payment) for payment in payments]

    flow = Dataflow("peer")
    source = KafkaSource([task.servers], [task.topic], tail=False, batch_size=10_000)
    records = op.input("in", flow, source)
    payments = op.flat_map_batch("decode", records, decode)
    windows = fold_window(
        "fold",
        payments,
        EventClock(lambda payment: payment.ts, timedelta(seconds=LATE_S)),
        SlidingWindower(timedelta(seconds=WINDOW_S), timedelta(seconds=HOP_S), datetime(2026, 1, 1, tzinfo=UTC)),
        lambda: (0, 0.0, float("-inf")),
        fold,
        merge,
        ordered=False,
    )
    op.output("out", windows.down, Sink(results))
    return flow


def main() -> None:
    """Fold the topic to its end."""
    task = Task.from_argv()
    results = Results(task)
    run_main(flow_of(task, results))
    results.flush()
    task.reached("last", counted=results.counted)


if __name__ == "__main__":
    main()
