"""Kafka: whether the topics keep what they must, and whose clock stamps the records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.bus.topics import (
    DECISIONS,
    DEFINITIONS,
    EXCLUSIONS,
    FOR_EVER,
    MODELS,
    RUNS,
    STAMPED,
    admin,
    configurations,
    existing_incarnations,
)
from headrace.streams.repair import find_gaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.stream import Stream
    from headrace.bus.topics import TopicIncarnation
    from headrace.event_log.event_log import EventLog

_KEPT = (DEFINITIONS, MODELS, EXCLUSIONS, DECISIONS, RUNS)
_DAY_MS = 86_400_000


def examine(servers: str, streams: Sequence[Stream], log: EventLog) -> Iterator[Finding]:
    """Look at the topics of the streams and at headrace's own.

    Raises BusUnavailableError and OfflineStoreUnavailableError.
    """
    client = admin(servers)
    there = existing_incarnations(client, [*(stream.topic for stream in streams), *_KEPT])
    configured = configurations(client, there) if there else {}
    for stream in streams:
        yield from _of_stream(stream, there.get(stream.topic), configured.get(stream.topic, {}))
    for topic in _KEPT:
        if topic in there:
            yield from of_kept(topic, configured[topic], there[topic].partitions)
    for gap in find_gaps(client, log, [stream for stream in streams if stream.topic in there]):
        yield error(
            f"topic {gap.topic}",
            f"partition {gap.source.partition} and the event log do not meet: {gap.rows_lost} rows lost",
            "headrace repair",
        )


def _of_stream(stream: Stream, there: TopicIncarnation | None, config: Mapping[str, str | None]) -> Iterator[Finding]:
    subject = f"topic {stream.topic}"
    if there is None:
        yield warning(subject, "it is not there", "make it, or start a worker, which makes it")
        return
    yield ok(subject, f"{there.partitions} partitions")
    yield from of_stream(subject, config, by_record=stream.available_at == "record")


def of_stream(subject: str, config: Mapping[str, str | None], *, by_record: bool = True) -> Iterator[Finding]:
    """What a stream topic's configuration means; ``by_record``: its record timestamps say what was available."""
    if "compact" in (config["cleanup.policy"] or ""):
        yield error(
            subject,
            "cleanup.policy has compact: events are deleted once a later one has their key, read or not",
            "cleanup.policy=delete",
        )
    retention_ms = int(config["retention.ms"] or -1)
    if 0 <= retention_ms < _DAY_MS:
        yield warning(
            subject,
            f"retention.ms is {retention_ms:,}: what workers have not read by then is lost",
            "keep a day at least, longer than workers could be down",
        )
    if by_record and config[STAMPED] == "CreateTime":
        yield warning(
            subject,
            f"{STAMPED} is CreateTime: the producers' clocks say when a record was available, and one that is "
            "ahead moves its partition's clock for ever",
            f"{STAMPED}=LogAppendTime, unless history is replayed",
        )


def of_kept(topic: str, config: Mapping[str, str | None], partitions: int) -> Iterator[Finding]:
    """What the configuration of a topic means that headrace folds from its begin."""
    subject = f"topic {topic}"
    wrong = {name: config[name] for name, wanted in FOR_EVER.items() if config[name] != wanted}
    if wrong:
        yield error(
            subject,
            f"it is not kept for ever: {', '.join(f'{name}={value}' for name, value in wrong.items())}",
            ", ".join(f"{name}={FOR_EVER[name]}" for name in wrong),
        )
    elif partitions != 1:
        yield error(
            subject, f"it has {partitions} partitions: its order is lost", "one partition; restore it from a copy"
        )
    else:
        yield ok(subject, "kept for ever, one partition")
