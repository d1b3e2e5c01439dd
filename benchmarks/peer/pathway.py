"""Pathway: its own Kafka reader and JSON parser, its sliding window; the whole topic as one static input."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pathway as pw

from .common import HOP_S, WINDOW_S, Results, Task

FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Payment(pw.Schema):
    """One payment."""

    user_id: str
    ts: str
    amount: float


def main() -> None:
    """Fold the topic to its end. Its reader is not in Python, so it is measured from the start of the engine."""
    task = Task.from_argv()
    results = Results(task)
    settings = {"bootstrap.servers": task.servers, "group.id": f"peer-{uuid.uuid4().hex}"}
    settings["auto.offset.reset"] = "earliest"
    payments = pw.io.kafka.read(settings, task.topic, schema=Payment, format="json", mode="static")
    timed = payments.select(pw.this.user_id, pw.this.amount, at=pw.this.ts.dt.strptime(FORMAT))
    window = pw.temporal.sliding(hop=timedelta(seconds=HOP_S), duration=timedelta(seconds=WINDOW_S))
    totals = timed.windowby(timed.at, window=window, instance=timed.user_id).reduce(
        user=pw.this._pw_instance,  # noqa: SLF001 - its documented name
        start=pw.this._pw_window_start,  # noqa: SLF001
        n=pw.reducers.count(),
        total=pw.reducers.sum(pw.this.amount),
        largest=pw.reducers.max(pw.this.amount),
    )

    def on_change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:  # noqa: ARG001, FBT001 - its names
        if is_addition:
            start = int(row["start"].timestamp())
            results.take([(row["user"], start, (row["n"], row["total"], row["largest"]))])

    pw.io.subscribe(totals, on_change)
    task.reached("first")
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    results.flush()
    task.reached("last", counted=results.counted)


if __name__ == "__main__":
    main()
