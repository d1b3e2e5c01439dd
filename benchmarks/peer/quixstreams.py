"""Quix Streams: its hopping window, results when windows close, no changelog."""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any

import msgspec
from quixstreams import Application
from quixstreams.dataframe.windows import Count, Max, Sum
from quixstreams.models import Deserializer

from .common import HOP_S, LATE_S, WINDOW_S, Results, Task

CLOSING = "closing"


class Payment(msgspec.Struct, gc=False):
    """One payment."""

    user_id: str
    ts: datetime
    amount: float


class Decoder(Deserializer):
    """JSON to what the window reads."""

    def __init__(self) -> None:
        super().__init__()
        self._decoder = msgspec.json.Decoder(Payment)

    def __call__(self, value: bytes, ctx: Any) -> dict[str, Any]:  # noqa: ARG002 - given by name
        """The payment as a dict."""
        payment = self._decoder.decode(value)
        return {"ts": payment.ts, "amount": payment.amount}


def main() -> None:
    """Fold the topic to its end."""
    task = Task.from_argv()
    results, seen = Results(task), 0
    app = Application(
        broker_address=task.servers,
        consumer_group=f"peer-{uuid.uuid4().hex}",
        auto_offset_reset="earliest",
        state_dir=f"{task.folder}/state",
        use_changelog_topics=False,
        auto_create_topics=False,
        commit_interval=30.0,
        loglevel="ERROR",
    )

    def event_time(value: Any, _headers: Any, _timestamp: float, _kind: Any) -> int:
        nonlocal seen
        if not seen:
            task.reached("first")
        seen += 1
        return int(value["ts"].timestamp() * 1_000)

    def take(value: Any, key: Any, _timestamp: Any, _headers: Any) -> None:
        results.take([(str(key), value["start"], (value["n"], value["total"], value["largest"]))])

    def processed(_topic: str, _partition: int, _offset: int) -> None:
        if seen >= task.events:
            app.stop()

    app._on_message_processed = processed  # noqa: SLF001 - it needs the app, which needs it
    topic = app.topic(task.topic, value_deserializer=Decoder(), key_deserializer="str", timestamp_extractor=event_time)
    window = app.dataframe(topic).hopping_window(WINDOW_S * 1_000, HOP_S * 1_000, grace_ms=LATE_S * 1_000)
    totals = window.agg(n=Count(), total=Sum("amount"), largest=Max("amount"))
    totals.final(closing_strategy="key").update(take, metadata=True)
    app.run()
    results.flush()
    task.reached("last", counted=results.counted)


if __name__ == "__main__":
    main()
