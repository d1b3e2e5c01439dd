"""Checks the clocks of partitions: one that is ahead of the time hides features, one that stands still holds labels up.

A partition's clock is the largest ``available_at`` of its records. Its own records move it, and nothing moves it back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, error, warning
from headrace.base.times import SECOND, utc_datetime
from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import NO_CLOCK, credible_ahead_us
from headrace.bus.topics import existing_incarnations
from headrace.streams.deployments.estimate import positions
from headrace.trainers.triggers.waiting_labels import HELD_AFTER_US

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.online.cursor import Cursor
    from headrace.trainers.definitions import Model

_LABELS = (
    "see whether somebody still produces to each partition; give the topic as many partitions as always have records, "
    "or use Label(missing=None)"
)
_HOUR, _LAST_US = 3_600 * SECOND, 253_402_300_799_999_999
PartitionClocks = dict[int, int]
"""Partition → its clock in microseconds, ``NO_CLOCK`` if it has no record."""


def examine(
    servers: str, log: EventLog, streams: Sequence[Stream], models: Iterable[Model], now_us: int
) -> Iterator[Finding]:
    """Check the clocks of all partitions of some streams. Raises what :func:`read_clocks` raises."""
    found = read_clocks(servers, log, streams)
    for stream in streams:
        yield from check_topic(stream, found.get(stream.topic, {}), now_us)
    for model in models:
        yield from check_labels(model, found.get(model.label.stream.topic, {}), now_us)


def read_clocks(servers: str, log: EventLog, streams: Sequence[Stream]) -> dict[str, PartitionClocks]:
    """Return the clocks of the topics that exist, as far as the event log has them.

    Raises BusUnavailableError and OfflineStoreUnavailableError.
    """
    there = existing_incarnations(admin(servers), [stream.topic for stream in streams])
    return {
        topic: {
            source.partition: log.clock_us(topic, source, position)
            for source, position in positions(log, topic, found.topic_id, found.partitions).items()
        }
        for topic, found in there.items()
    }


def check_topic(stream: Stream, clocks: PartitionClocks, now_us: int) -> Iterator[Finding]:
    """Check that no partition of a stream is further ahead of the time than clocks differ."""
    for partition, clock_us in sorted(clocks.items()):
        if clock_us > now_us + credible_ahead_us(stream.spec.tolerance_us):
            yield error(
                f"topic {stream.topic}",
                f"partition {partition}: its clock is {_far(clock_us - now_us)} ahead of this machine's. Until "
                f"{_time(clock_us)} all its records count as available then, so labels in it come too late",
                "correct the clock of the producer; message.timestamp.type=LogAppendTime; `headrace data exclude` the "
                "time until then",
            )


def check_labels(model: Model, clocks: PartitionClocks, now_us: int) -> Iterator[Finding]:
    """Check that no idle partition holds the labels of a model up. Only a model with ``missing=False`` waits for them.

    A partition without any record holds nothing up, if another one has records: the log does not know it.
    """
    topic = model.label.stream.topic
    known = {partition: clock_us for partition, clock_us in clocks.items() if clock_us > NO_CLOCK}
    if model.label.missing is None:
        return
    if not known:
        yield warning(f"model {model.name}", f"all its labels wait for a first record on {topic}", _LABELS)
    for partition, clock_us in sorted(known.items()):
        if clock_us < now_us - HELD_AFTER_US:
            yield warning(
                f"model {model.name}",
                f"labels wait for partition {partition} of {topic}, which has had no record since {_time(clock_us)}: "
                "until it has one, requests whose label was not known by then have no label, neither true nor false",
                _LABELS,
            )


def check_view(spec: ViewSpec, cursors: Mapping[SourcePartition, Cursor], now_us: int) -> Iterator[Finding]:
    """Check that look-ups of now see the view: no partition of it is ahead of the time by more than its history."""
    bound_us = now_us + max(credible_ahead_us(spec.tolerance_us), spec.history_us)
    for source, cursor in sorted(cursors.items()):
        partition, clock_us = source.partition, cursor.clock
        if clock_us > bound_us:
            yield error(
                f"view {spec.versioned_name}",
                f"partition {partition} of {' or '.join(spec.topics)}: its clock is {_far(clock_us - now_us)} ahead of "
                f"this machine's. Look-ups of now are `out_of_range` until {_time(clock_us - spec.history_us)}",
                "correct the clock of the producer; wait until then, or deploy the view with a history that long",
            )


def _far(us: int) -> str:
    return f"{us / _HOUR:,.1f} h" if us >= _HOUR else f"{us / SECOND:,.0f} s"


def _time(us: int) -> str:
    if us > _LAST_US:
        return "the year 10,000"
    return utc_datetime(us - us % SECOND).isoformat().replace("+00:00", "Z")
