"""Checks Kafka: topics must keep their records long enough, and the right clock must set the record timestamps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.base.place_names import check_servers
from headrace.bus.control_topics import EVENT_LOGS
from headrace.bus.kafka_clients import admin
from headrace.bus.table import Table
from headrace.bus.topics import AN_HOUR, FOR_EVER, STAMPED, configurations, existing_incarnations
from headrace.streams.repair import find_gaps

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.control_topics import ControlTopics
    from headrace.bus.stream import Stream
    from headrace.bus.topics import TopicIncarnation
    from headrace.event_log.event_log import EventLog

_DAY_MS = 86_400_000


def examine(servers: str, topics: ControlTopics, streams: Sequence[Stream], log: EventLog) -> Iterator[Finding]:
    """Check the topics of the streams and the control topics.

    Raises BusUnavailableError and OfflineStoreUnavailableError.
    """
    check_servers(servers)
    client = admin(servers)
    kept = (
        topics.definitions, EVENT_LOGS, topics.models, topics.exclusions, topics.decisions, topics.runs,
    )  # fmt: skip
    brief = (topics.observations, topics.heartbeats)
    there = existing_incarnations(client, [*(stream.topic for stream in streams), *kept, *brief])
    configured = configurations(client, there) if there else {}
    for stream in streams:
        yield from _check_stream(stream, there.get(stream.topic), configured.get(stream.topic, {}))
    for topic in kept:
        if topic in there:
            yield from check_kept_topic(topic, configured[topic], there[topic].partitions)
    for topic in brief:
        if topic in there:
            yield from check_brief_topic(topic, configured[topic])
    for gap in find_gaps(client, log, [stream for stream in streams if stream.topic in there]):
        yield error(
            f"topic {gap.topic}",
            f"there is a gap between partition {gap.source.partition} and the event log: {gap.rows_lost} rows lost",
            "headrace repair",
        )


_COMPACTED = (
    "it is compacted: the event log keeps each version of a row that a worker has read. Training sets lack the "
    "versions that Kafka removed before"
)


def _check_table(subject: str, config: Mapping[str, str | None]) -> Iterator[Finding]:
    retention_ms, deletes_ms = int(config["retention.ms"] or -1), int(config.get("delete.retention.ms") or _DAY_MS)
    if "compact" in (config["cleanup.policy"] or ""):
        yield ok(subject, _COMPACTED)
        if deletes_ms < _DAY_MS:
            yield warning(
                subject,
                f"delete.retention.ms is {deletes_ms:,}: if no worker reads a tombstone within this time, its "
                "row stays for ever",
                "set at least a day, and longer than workers may be down",
            )
    if "delete" in (config["cleanup.policy"] or "") and retention_ms >= _DAY_MS:
        yield warning(
            subject,
            f"retention.ms is {retention_ms:,}: Kafka removes a row that did not change for this time, so a new "
            "event log would not have it",
            "set cleanup.policy=compact",
        )


def _check_stream(
    stream: Stream, there: TopicIncarnation | None, config: Mapping[str, str | None]
) -> Iterator[Finding]:
    subject = f"topic {stream.topic}"
    if there is None:
        yield warning(subject, "it does not exist", "create it, or start a worker, which creates it")
        return
    yield ok(subject, f"{there.partitions} partitions")
    if isinstance(stream, Table):
        yield from _check_table(subject, config)
        config = {**config, "cleanup.policy": "delete"}
    yield from check_stream_topic(subject, config, by_record=stream.available_at == "record")


def check_stream_topic(subject: str, config: Mapping[str, str | None], *, by_record: bool = True) -> Iterator[Finding]:
    """Check the configuration of a stream's topic. ``by_record``: its record timestamps say what was available."""
    if "compact" in (config["cleanup.policy"] or ""):
        yield error(
            subject,
            "cleanup.policy has compact: an event is deleted when a later one has its key, even before it is read",
            "cleanup.policy=delete",
        )
    retention_ms = int(config["retention.ms"] or -1)
    if 0 <= retention_ms < _DAY_MS:
        yield warning(
            subject,
            f"retention.ms is {retention_ms:,}: records that workers have not read by then are lost",
            "keep at least a day, and longer than workers may be down",
        )
    if by_record and config[STAMPED] == "CreateTime":
        yield warning(
            subject,
            f"{STAMPED} is CreateTime: the producers' clocks say when a record was available, and a clock that is "
            "ahead moves the partition's clock for ever",
            f"{STAMPED}=LogAppendTime, unless history is replayed",
        )


def check_brief_topic(topic: str, config: Mapping[str, str | None]) -> Iterator[Finding]:
    """Check the configuration of a topic of reports, which newer ones replace within seconds."""
    retention_ms = int(config["retention.ms"] or -1)
    if "delete" in (config["cleanup.policy"] or "") and 0 <= retention_ms <= _DAY_MS:
        yield ok(f"topic {topic}", "kept for a day at most")
    else:
        kept = "for ever" if retention_ms < 0 else f"for {retention_ms // _DAY_MS} days"
        yield warning(
            f"topic {topic}",
            f"it is kept {kept}: a worker's reports may fill a gigabyte a day, and nobody reads old ones",
            ", ".join(f"{name}={value}" for name, value in AN_HOUR.items()),
        )


def check_kept_topic(topic: str, config: Mapping[str, str | None], partitions: int) -> Iterator[Finding]:
    """Check the configuration of a topic that headrace reads from its beginning."""
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
