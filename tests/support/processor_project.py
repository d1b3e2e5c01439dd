"""A project with a processor, run as processes: the code of the page, on topics of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException, Producer, TopicPartition

from headrace.bus.kafka_clients import reader
from headrace.bus.topics import TopicPlan, dead_letter_topic, ensure_topics
from headrace.bus.watermarks import Watermarks
from tests.support.documents import blocks
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from confluent_kafka import Message

    from headrace.app.local.services import LocalServices

PAGE = "docs/how-to/process-events.md"
PYTHON = blocks(PAGE, "python")[0].text
NAME = "large_payments"
PARTITIONS = 4


def payment(number: int, **other: Any) -> bytes:
    row = {"payment_id": number, "card": f"c{number % 50}", "shop": f"s{number % 7}", "amount": 2_000.0 + number}
    return json.dumps(row | {"paid_at": "2026-03-02T09:00:00Z"} | other).encode()


class ProcessorProject:
    """The project of the page. ``python`` replaces its code; topics get the prefix ``namespace``."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path, python: str = PYTHON) -> None:
        self.folder, self.namespace, self.servers = folder, namespace, services.bootstrap_servers
        self.payments, self.alerts = f"{namespace}.payments", f"{namespace}.alerts"
        self.letters = dead_letter_topic(f"{self.payments}.{NAME}")
        self.python = python.replace('Stream("', f'Stream("{namespace}.')
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
        self._environment |= {"HEADRACE_BOOTSTRAP_SERVERS": self.servers, "NO_COLOR": "1"}
        self._environment |= {"HEADRACE_NAMESPACE": namespace, "HEADRACE_REDIS_URL": services.redis_url}
        (folder / "headrace.toml").write_text("project = {features = [], trainers = []}\n")
        (folder / "streams.py").write_text(self.python)
        ensure_topics(self.servers, [TopicPlan(name, PARTITIONS) for name in (self.payments, self.alerts)])

    def definitions(self) -> dict[str, Any]:
        """What the module of the project has."""
        world: dict[str, Any] = {"__name__": "page"}
        exec(compile(self.python, PAGE, "exec", dont_inherit=True), world)
        return world

    def put(self, *values: bytes | None, topic: str = "") -> None:
        """Produce records to the source, keyed by their numbers."""
        producer = Producer({"bootstrap.servers": self.servers})
        for number, value in enumerate(values):
            producer.produce(topic or self.payments, value, str(number).encode())
            producer.poll(0)
        assert producer.flush(30) == 0

    @contextmanager
    def process(self, *arguments: str, instance: str = "a", **more: str) -> Iterator[subprocess.Popen[bytes]]:
        command = [sys.executable, "-m", "headrace", "process", "--instance", instance, *arguments]
        with self._log(instance).open("ab") as output:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self._environment | more, stdout=output, stderr=output
            )
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "headrace", *arguments]
        return subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False, timeout=120
        )

    def _log(self, instance: str) -> Path:
        return self.folder / f"process-{instance}.log"

    def log(self, instance: str = "a") -> str:
        return self._log(instance).read_text()

    def committed(self) -> int:
        """The sum of the offsets that the processor has committed."""
        consumer = reader(self.servers, "unused", {"group.id": f"{self.namespace}-process-{NAME}"})
        places = [TopicPartition(self.payments, partition) for partition in range(PARTITIONS)]
        try:
            return sum(max(each.offset, 0) for each in consumer.committed(places, 10))
        except KafkaException:  # the first group of this Kafka is not there yet, or a transaction is open
            return 0
        finally:
            consumer.close()

    def await_committed(self, count: int, seconds: int = 60) -> None:
        until(lambda: self.committed() == count, seconds, self.log)

    def alerted(self) -> list[int]:
        """The payments of the alerts that a reader of committed records sees, in the order of partition and offset."""
        return [json.loads(each.value() or b"")["payment_id"] for each in committed_records(self.servers, self.alerts)]


def committed_records(servers: str, topic: str, partitions: int = PARTITIONS) -> list[Message]:
    """The records of a topic that are committed."""
    consumer = reader(servers, "test", {"enable.partition.eof": True, "isolation.level": "read_committed"})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
    found: list[Message] = []
    ended = 0
    try:
        while ended < partitions:
            for message in consumer.consume(1_000, 0.2):
                error = message.error()
                if error is None:
                    found.append(message)
                else:
                    ended += error.name() == "_PARTITION_EOF"
    finally:
        consumer.close()
    return sorted(found, key=lambda each: (each.partition() or 0, each.offset() or 0))


def offsets(servers: str, topic: str, partitions: int = PARTITIONS) -> int:
    """How many offsets a topic has: those of records, of records of transactions that were given up, and of ends."""
    marks = Watermarks(servers)
    try:
        return sum(marks.offsets(topic, partition)[1] for partition in range(partitions))
    finally:
        marks.close()


def stopped(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(9)
