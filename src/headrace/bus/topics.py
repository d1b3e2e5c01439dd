"""Topics of the house: their names, their incarnations, and making them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from confluent_kafka.admin import AdminClient

OBSERVATIONS = "headrace.observations"
DECISIONS = "headrace.decisions"
RETRAIN_REQUESTS = "headrace.retrain-requests"
RUNS = "headrace.runs"
MODELS = "headrace.models"
MODEL_ACKS = "headrace.model-acks"
CONTROL = "headrace.control"
EXCLUSIONS = "headrace.exclusions"
FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}


def dead_letters(topic: str) -> str:
    """The topic that keeps the rejected records of a topic."""
    return f"{topic}.dead-letters"


@dataclass(frozen=True)
class TopicPlan:
    """A topic that is to exist."""

    name: str
    partitions: int = 1
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TopicIncarnation:
    """What the broker knows of a topic: its id, which a re-created topic does not share, and its partition count."""

    topic_id: bytes
    partitions: int


def admin(bootstrap_servers: str) -> AdminClient:
    """An admin client."""
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 - keeps `import headrace.serving` light

    return AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 2})


def ensure_topics(bootstrap_servers: str, plans: Iterable[TopicPlan], *, timeout_s: float = 30.0) -> None:
    """Create the topics that are not there yet; existing ones stay as they are. Raises BusUnavailableError."""
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415
    from confluent_kafka.admin import NewTopic  # noqa: PLC0415

    new = [NewTopic(plan.name, plan.partitions, 1, config=dict(plan.config)) for plan in plans]
    client = admin(bootstrap_servers)  # kept while the futures are open: they end with it
    for name, future in client.create_topics(new, operation_timeout=timeout_s).items():
        try:
            future.result(timeout_s)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                message = f"topic {name!r} cannot be made at {bootstrap_servers}: {error}"
                raise BusUnavailableError(message) from error


def incarnations(client: AdminClient, topics: Iterable[str], *, timeout_s: float = 10.0) -> dict[str, TopicIncarnation]:
    """The incarnation of each topic. Raises BusUnavailableError if one does not exist or the broker does not answer."""
    from confluent_kafka import KafkaException, TopicCollection  # noqa: PLC0415

    found = {}
    for name, future in client.describe_topics(TopicCollection(list(topics)), request_timeout=timeout_s).items():
        try:
            description = future.result(timeout_s)
        except (KafkaException, TimeoutError) as error:
            message = f"topic {name!r} cannot be described: {error}"
            raise BusUnavailableError(message) from error
        found[name] = TopicIncarnation(_bytes(description.topic_id), len(description.partitions))
    return found


def _bytes(topic_id: Any) -> bytes:
    high: int = topic_id.get_most_significant_bits()
    low: int = topic_id.get_least_significant_bits()
    return (high % 2**64).to_bytes(8, "big") + (low % 2**64).to_bytes(8, "big")
