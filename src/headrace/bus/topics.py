"""The topics of headrace: their names, their incarnations, and making them."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from headrace.bus import kafka_clients
from headrace.bus.kafka_clients import admin
from headrace.bus.missing_rights import missing_right
from headrace.errors import BusUnavailableError, TopicUnknownError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from concurrent.futures import Future

    from confluent_kafka.admin import AdminClient

logger = structlog.get_logger(__name__)
_DAY_MS = 86_400_000
_METADATA_POLL_S = 0.02
FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
AN_HOUR = {"retention.ms": "3600000", "segment.ms": "600000", "cleanup.policy": "delete"}
"""For reports that newer ones replace within seconds. Kafka deletes whole segments, so they are short too."""
A_MONTH = {"retention.ms": str(30 * _DAY_MS), "segment.ms": str(_DAY_MS), "cleanup.policy": "delete"}
"""For results of checks, which are of interest until the next one, and as a history of some weeks."""


def dead_letter_topic(topic: str) -> str:
    """Return the name of the topic that keeps the rejected records of a topic."""
    return f"{topic}.dead-letters"


def stream_config(*, replay: bool) -> dict[str, str]:
    """Return the configuration of a stream's topic, which is kept for ever.

    The broker's clock stamps the records, so the time at which each was available does not depend on producers. With
    ``replay`` the producers' timestamps are kept instead, for history that is replayed in order. The broker then
    refuses a record whose timestamp is more than a day ahead of its clock: it would move its partition's clock ahead
    permanently.
    """
    if not replay:
        return {"retention.ms": "-1", STAMPED: "LogAppendTime"}
    return {"retention.ms": "-1", STAMPED: "CreateTime", "message.timestamp.after.max.ms": str(_DAY_MS)}


STAMPED = "message.timestamp.type"
"""The option that says whose clock stamps a topic's records: LogAppendTime (the broker) or CreateTime (producers)."""


@dataclass(frozen=True)
class TopicPlan:
    """The plan of a topic that must exist."""

    name: str
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicIncarnation:
    """A topic as the broker knows it: its id and its partition count. A re-created topic has another id."""

    topic_id: bytes
    partitions: int


def ensure_topics(bootstrap_servers: str, plans: Iterable[TopicPlan], *, timeout_s: float = 30.0) -> None:
    """Create the topics that do not exist, and wait until the broker that answers knows all of them.

    The controller confirms a new topic before the other parts of the cluster know it. Existing topics are not changed,
    and need no right to make topics.

    Raises BusUnavailableError.
    """
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415
    from confluent_kafka.admin import NewTopic  # noqa: PLC0415

    deadline = time.monotonic() + timeout_s
    client = admin(bootstrap_servers)  # kept while the futures are open: they end with it
    known = _known_topics(client, timeout_s)
    new = [
        NewTopic(plan.name, plan.partitions, config=dict(plan.config)) for plan in plans if plan.name not in known
    ]  # as many replicas as the cluster gives a topic by itself: services that are managed take nothing less
    for name, future in client.create_topics(new, operation_timeout=timeout_s).items() if new else ():
        try:
            future.result(timeout_s)
        except (KafkaException, TimeoutError) as error:
            if _code(error) != KafkaError.TOPIC_ALREADY_EXISTS:
                what = f"topic {name!r} cannot be made at {bootstrap_servers}"
                raise _unanswered(client, what, error, "Create (or Describe, if it exists)", name) from error
    while unknown := {topic.topic for topic in new} - _known_topics(client, timeout_s):
        if time.monotonic() > deadline:
            message = f"{bootstrap_servers} does not know {sorted(unknown)} {timeout_s:.0f} s after it made them"
            raise BusUnavailableError(message)
        time.sleep(_METADATA_POLL_S)


def report_plans(observations: str, heartbeats: str, findings: str) -> list[TopicPlan]:
    """Return the plans of the topics on which processes say how they do."""
    return [TopicPlan(observations, 1, AN_HOUR), TopicPlan(heartbeats, 1, AN_HOUR), TopicPlan(findings, 1, A_MONTH)]


def ensure_report_topics(
    bootstrap_servers: str, observations: str, *, heartbeats: str = "", findings: str = ""
) -> None:
    """Create the topics on which processes say how they do, as far as they are named and do not exist.

    Nothing depends on what is in the last two. So a user who may not see or make them, as of an earlier release, goes
    on without: that is logged. Raises BusUnavailableError for the observations.
    """
    needed, *others = report_plans(observations, heartbeats, findings)
    ensure_topics(bootstrap_servers, [needed])
    for plan in others:
        try:
            ensure_topics(bootstrap_servers, [plan] if plan.name else [])
        except BusUnavailableError as error:
            logger.warning("a topic of reports cannot be made: what would be in it is not said", error=str(error))


def has_topic(bootstrap_servers: str, topic: str, *, timeout_s: float = 10.0) -> bool:
    """Return whether a topic exists. It is not created. Raises BusUnavailableError."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    client = admin(bootstrap_servers)
    try:
        return topic in client.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise _unanswered(client, f"the topics of {bootstrap_servers} are not known", error) from error


def grow_topic(bootstrap_servers: str, topic: str, partitions: int, *, timeout_s: float = 30.0) -> None:
    """Give a topic so many partitions, if it has fewer. Raises BusUnavailableError."""
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415
    from confluent_kafka.admin import NewPartitions  # noqa: PLC0415

    client = admin(bootstrap_servers)
    if incarnations(client, [topic])[topic].partitions >= partitions:
        return
    try:
        client.create_partitions([NewPartitions(topic, partitions)])[topic].result(timeout_s)
    except (KafkaException, TimeoutError) as error:
        if _code(error) != KafkaError.INVALID_PARTITIONS:  # another process has grown it
            what = f"topic {topic!r} cannot be given {partitions} partitions"
            raise _unanswered(client, what, error, "Alter", topic) from error


def _known_topics(client: AdminClient, timeout_s: float) -> set[str]:
    """Return the topics that have partitions with a leader. Raises BusUnavailableError."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    try:
        found = client.list_topics(timeout=timeout_s).topics
    except KafkaException as error:
        raise _unanswered(client, "the topics are not known", error) from error
    return {
        name
        for name, topic in found.items()
        if topic.partitions and all(partition.leader >= 0 for partition in topic.partitions.values())
    }


def stamped_by_producers(client: AdminClient, topics: Iterable[str], *, timeout_s: float = 10.0) -> list[str]:
    """Return the topics whose records have their producers' timestamps. Raises BusUnavailableError."""
    found = configurations(client, topics, timeout_s=timeout_s)
    return sorted(topic for topic, config in found.items() if config[STAMPED] == "CreateTime")


def configurations(
    client: AdminClient, topics: Iterable[str], *, timeout_s: float = 10.0
) -> dict[str, dict[str, str | None]]:
    """Return the configuration of each topic. All of them must exist. Raises BusUnavailableError."""
    from confluent_kafka import KafkaException  # noqa: PLC0415
    from confluent_kafka.admin import ConfigResource, ResourceType  # noqa: PLC0415

    asked = client.describe_configs(
        [ConfigResource(ResourceType.TOPIC, topic) for topic in topics], request_timeout=timeout_s
    )
    try:
        found = {resource.name: future.result(timeout_s) for resource, future in asked.items()}
    except (KafkaException, TimeoutError) as error:
        names = sorted(resource.name for resource in asked)
        what = f"the configuration of the topics {names} is not known"
        raise _unanswered(client, what, error, "DescribeConfigs", ", ".join(names)) from error
    return {topic: {name: entry.value for name, entry in config.items()} for topic, config in found.items()}


def incarnations(client: AdminClient, topics: Iterable[str], *, timeout_s: float = 10.0) -> dict[str, TopicIncarnation]:
    """Return the incarnation of each topic. Raises TopicUnknownError, or BusUnavailableError without an answer."""
    asked = _described(client, topics, timeout_s)
    return {name: _incarnation(client, name, answer, timeout_s) for name, answer in asked}


def existing_incarnations(
    client: AdminClient, topics: Iterable[str], *, timeout_s: float = 10.0
) -> dict[str, TopicIncarnation]:
    """Return the incarnations of the topics that exist. Raises BusUnavailableError without an answer."""
    found = {}
    for name, asked in _described(client, topics, timeout_s):
        with suppress(TopicUnknownError):
            found[name] = _incarnation(client, name, asked, timeout_s)
    return found


def _described(client: AdminClient, topics: Iterable[str], timeout_s: float) -> Iterable[tuple[str, Future[Any]]]:
    from confluent_kafka import TopicCollection  # noqa: PLC0415

    return client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s).items()


def _incarnation(client: AdminClient, name: str, asked: Future[Any], timeout_s: float) -> TopicIncarnation:
    from confluent_kafka import KafkaException  # noqa: PLC0415

    try:
        description = asked.result(timeout_s)
    except (KafkaException, TimeoutError) as error:
        raise _unanswered(client, f"topic {name!r} cannot be described", error, "Describe", name) from error
    return TopicIncarnation(_bytes(description.topic_id), len(description.partitions))


@dataclass(frozen=True)
class RetainedOffsets:
    """The offsets that a partition holds: from ``begins`` to below ``ends``, its high watermark."""

    begins: int
    ends: int


def retained_offsets(client: AdminClient, topic: str, partition: int, *, timeout_s: float = 10.0) -> RetainedOffsets:
    """Return the offsets that a partition holds now.

    Raises TopicUnknownError, and BusUnavailableError if the broker does not answer.
    """
    from confluent_kafka import KafkaException, TopicPartition  # noqa: PLC0415
    from confluent_kafka.admin import OffsetSpec  # noqa: PLC0415

    offsets = []
    wanted: list[Any] = [OffsetSpec.earliest(), OffsetSpec.latest()]  # type: ignore[no-untyped-call]
    for which in wanted:
        asked = client.list_offsets({TopicPartition(topic, partition): which}, request_timeout=timeout_s)
        try:
            offsets += [future.result(timeout_s).offset for future in asked.values()]
        except (KafkaException, TimeoutError) as error:
            what = f"the offsets of {topic}-{partition} are not known"
            raise _unanswered(client, what, error, "Describe", topic) from error
    return RetainedOffsets(*offsets)


def _unanswered(
    client: AdminClient, what: str, error: Exception, operation: str = "", topic: str = ""
) -> BusUnavailableError:
    """Return headrace's error for an error of Kafka, or for none of its answers in time.

    ``operation`` is the right that the request needs on the ``topic``.
    """
    from confluent_kafka import KafkaError  # noqa: PLC0415

    names = ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "_NOENT")  # the last: no leader is known
    unknown = [getattr(KafkaError, name) for name in names]
    if _code(error) in unknown:
        return TopicUnknownError(f"{what}: {error}")
    said = ": ".join(filter(None, (str(error), kafka_clients.refusal_of(client))))
    said = said or "no answer in time; is the broker up and the address right?"
    return BusUnavailableError(f"{what}: {said}{missing_right(error, operation, topic)}")


def _code(error: Exception) -> int | None:
    """Return the code of an error of Kafka; None for another error."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    return error.args[0].code() if isinstance(error, KafkaException) else None


def _bytes(topic_id: Any) -> bytes:
    high: int = topic_id.get_most_significant_bits()
    low: int = topic_id.get_least_significant_bits()
    return (high % 2**64).to_bytes(8, "big") + (low % 2**64).to_bytes(8, "big")
