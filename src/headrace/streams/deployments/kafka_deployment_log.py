"""The log of deployments on Kafka: one partition, kept for ever."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import DEFINITIONS, FOR_EVER, TopicPlan, ensure_topics
from headrace.streams.deployments.deployment import Deployment, advance, decode, encode

if TYPE_CHECKING:
    from headrace.streams.deployments.deployment import DeploymentChange


class KafkaDeploymentLog:
    """Appends, and reads all there is."""

    def __init__(self, bootstrap_servers: str) -> None:
        """Make the topic if it is not there. Raises BusUnavailableError."""
        self._servers = bootstrap_servers
        ensure_topics(bootstrap_servers, [TopicPlan(DEFINITIONS, 1, FOR_EVER)])

    def append(self, change: DeploymentChange) -> None:
        """Returns once it is durable. Raises BusUnavailableError."""
        producer = EventProducer(self._servers)
        producer.put(DEFINITIONS, change.namespace.encode(), encode(change))
        producer.flush()

    def read(self, namespace: str) -> Deployment:
        """What is deployed by now. Raises BusUnavailableError, and CodecError for a change of a later release."""
        state = Deployment()
        with closing(TopicTail(self._servers, [DEFINITIONS], from_beginning=True)) as tail:
            changes = [decode(message.value()) for message in tail.drain()]
        for change in changes:
            if change.namespace == namespace:
                state = advance(state, change)
        return state
