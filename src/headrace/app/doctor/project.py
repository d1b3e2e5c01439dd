"""Checks the project: risks in its definitions, and whether its views are deployed and up to date."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from headrace.app.doctor import clocks
from headrace.app.doctor.finding import Finding, ok, warning
from headrace.base.times import duration_us, format_duration
from headrace.features.online.cursor import imported, is_live, present
from headrace.features.online.redis.redis_store import RedisOnlineStore

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.features.definitions.view import FeatureView
    from headrace.features.online.cursor import Cursor


def check_stream(stream: Stream) -> Iterator[Finding]:
    """Check the definition of a stream."""
    if stream.bulk_delay is not None:
        yield warning(
            f"stream {stream.topic}",
            f"available_at is after({format_duration(duration_us(stream.bulk_delay))!r}): training sets believe that "
            "every event came that soon after it happened",
            'right for history that was loaded in bulk; "record" for a topic that is produced to live',
        )


def check_views(
    views: Sequence[FeatureView], url: str, namespace: str, *, now_us: int, bound_us: int
) -> Iterator[Finding]:
    """Check that each view is in the online store, has caught up, and has a live worker.

    Raises OnlineStoreUnavailableError.
    """
    with closing(RedisOnlineStore(url, namespace)) as store:
        found = store.cursors([f"{view.name}@{view.version}" for view in views])
    for view, cursors in zip(views, found, strict=True):
        subject, topics = f"view {view.name}@{view.version}", len(view.spec.topics)
        yield check_view(subject, cursors, topics, now_us=now_us, bound_us=bound_us)
        yield from clocks.check_view(view.spec, cursors, now_us)


def check_view(
    subject: str, cursors: Mapping[SourcePartition, Cursor], topics: int = 1, *, now_us: int, bound_us: int
) -> Finding:
    """Check the cursors of one view, which is made from that many topics."""
    current = present(cursors, topics)
    if not current:
        return warning(subject, "nothing of it is in Redis", "start a worker; `headrace apply` if workers run already")
    silent_us = now_us - min(cursor.heartbeat_us for cursor in current)
    if silent_us > bound_us:
        return warning(
            subject, f"a partition has had no heartbeat for {silent_us / 1e6:,.0f} s: `stale`", "start a worker"
        )
    if not is_live(cursors, topics):
        return warning(subject, "it is catching up: `rebuilding`", "wait, or see the worker's log if it lasts")
    history = imported(cursors)
    beside = f" and {len(history)} import{'s' * (len(history) > 1)}" if history else ""
    rows = sum(cursor.rows_total for cursor in [*current, *history])
    return ok(subject, f"live, {len(current)} partitions{beside}, {rows:,} rows")
