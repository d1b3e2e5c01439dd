"""The log of deployments on Kafka: a topic with one partition that is kept for ever."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.bus.unreadable_records import readable
from headrace.streams.deployments.deployment import Deployment, advance, decode, encode

if TYPE_CHECKING:
    from headrace.streams.deployments.deployment import DeploymentChange


class KafkaDeploymentLog:
    """Appends changes of one namespace, and reads all of them."""

    def __init__(self, bootstrap_servers: str, namespace: str) -> None:
        """Create the topic if it does not exist. Raises BusUnavailableError."""
        self._servers, self._namespace = bootstrap_servers, namespace
        self._topic = ControlTopics(namespace).definitions
        ensure_topics(bootstrap_servers, [TopicPlan(self._topic, 1, FOR_EVER)])

    def append(self, change: DeploymentChange) -> None:
        """Append a change. Returns once it is durable. Raises BusUnavailableError."""
        producer = EventProducer(self._servers)
        producer.put(self._topic, change.namespace.encode(), encode(change))
        producer.flush()

    def read(self) -> Deployment:
        """Return the present deployment. A change that cannot be read is left out. Raises BusUnavailableError."""
        state = Deployment()
        with closing(TopicTail(self._servers, [self._topic], from_beginning=True)) as tail:
            changes = list(readable(tail.drain(), lambda record: decode(record.value())))
        for change in changes:
            if change.namespace == self._namespace:
                state = advance(state, change)
        return state
