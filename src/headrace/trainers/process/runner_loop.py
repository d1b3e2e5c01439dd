"""The consumer of retrain requests. It takes one request at a time and commits it after its answer is on the bus."""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import structlog

from headrace.base.failpoints import failpoint
from headrace.base.loop_pulse import LoopPulse
from headrace.base.waiting import UntilAvailable
from headrace.bus import kafka_clients
from headrace.bus.control_topics import ControlTopics
from headrace.bus.kafka_clients import admin
from headrace.bus.missing_rights import missing_right
from headrace.bus.unreadable_records import readable
from headrace.errors import StoppingError, UnavailableError
from headrace.trainers.process.cancelled_runs import CancelledRuns
from headrace.trainers.process.owned_partitions import OwnedPartitions
from headrace.trainers.runs.messages import RetrainRequest, RunEnded, decode

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from confluent_kafka import Consumer, Message, TopicPartition

    from headrace.trainers.runs.training_runner import TrainingRunner

    MakeRunners = Callable[[], Mapping[str, TrainingRunner]]

logger = structlog.get_logger(__name__)
_POLL_S, _TIMEOUT_S = 0.1, 10.0
_SESSION_MS = 6_000
"""After so long without a sign of life a trainer's partitions go to another one: the least that brokers allow."""


def trainers_group(namespace: str) -> str:
    """Return the consumer group of a namespace's trainers: each of them has the requests of some models."""
    return f"{namespace}-trainers"


class RunnerLoop:
    """Answers retrain requests in a thread of its own: :meth:`run` until :meth:`stop`.

    A request is committed after its answer is on the bus. If the trainer dies during a run, the request is taken again,
    and its id keeps the version single. A request that was answered before, as ``ended`` says, gets the same answer
    again without a run. If Kafka or the event log does not answer, the run waits and starts again. A request that
    cannot be read is left out. A stop does not wait for a run: the next trainer takes its request again.

    The trainers of a namespace share the partitions of the topic: ``owned`` are those that the group gives to this one.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        namespace: str,
        runners: MakeRunners,
        answer: Callable[[RunEnded], None],
        *,
        ended: Callable[[str], RunEnded | None] = lambda _: None,
        owned: OwnedPartitions | None = None,
        cancelled: CancelledRuns | None = None,
    ) -> None:
        self._servers = bootstrap_servers
        self._namespace = namespace
        self._make_runners = runners
        self._answer = answer
        self._ended = ended
        self._owned = owned or OwnedPartitions()
        self._cancelled = cancelled or CancelledRuns()
        self._stopping = threading.Event()
        self.pulse = LoopPulse()
        """Whether the loop moves, also while a run goes on or waits for a store."""
        self._patiently = UntilAvailable(self._stopping, self.pulse.moved)
        self._waiting: deque[Message] = deque()

    def stop(self) -> None:
        """Ask the loop to end. A run under way is given up."""
        self._stopping.set()

    def waiting(self) -> list[str]:
        """Return the ids of the requests that were taken and not begun. Safe from any thread."""
        taken = readable(list(self._waiting), lambda record: decode(record.value(), RetrainRequest))
        return [request.request_id for request in taken]

    def run(self) -> None:
        """Answer requests until stopped."""
        runners = cache(lambda: self._patiently(self._make_runners))  # it takes seconds, in which the group would wait
        consumer = kafka_clients.consumer(
            self._servers,
            {
                "group.id": trainers_group(self._namespace),
                "client.id": f"{self._namespace}-trainer-{socket.gethostname()}-{os.getpid()}",
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": _SESSION_MS,
                "heartbeat.interval.ms": _SESSION_MS // 4,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "fetch.wait.max.ms": 100,  # answered at once when there is something
            },
        )
        topic = ControlTopics(self._namespace).retrain_requests
        consumer.subscribe([topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        pool = ThreadPoolExecutor(1, thread_name_prefix="run")
        pool.submit(runners)  # now: MLflow takes seconds to import, for which the first run would wait
        try:
            while not self._stopping.is_set():
                self.pulse.moved()
                message = self._waiting.popleft() if self._waiting else consumer.poll(_POLL_S)
                if message is not None and not self._is_error(message):
                    self._take(consumer, pool, runners, message)
        except UnavailableError as error:
            if not self._stopping.is_set():
                raise
            logger.warning(
                "a run is given up: the next trainer takes its request again, and ends it at once if it was cancelled",
                error=str(error),
            )
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            consumer.close()

    def _is_error(self, message: Message) -> bool:
        error = message.error()
        if error is not None:
            right = missing_right(error, "Read", message.topic() or trainers_group(self._namespace))
            logger.warning("kafka answered with an error", topic=message.topic(), error=error.str() + right)
        return error is not None

    def _assigned(self, _: Consumer, places: Sequence[TopicPartition]) -> None:
        """Take partitions over. Within a callback the consumer must not be asked: at the next one it would abort."""
        for topic in {place.topic for place in places}:
            partitions = len(admin(self._servers).list_topics(topic, _TIMEOUT_S).topics[topic].partitions)
            self._owned.assigned((place.partition for place in places), partitions)

    def _revoked(self, _: Consumer, places: Sequence[TopicPartition]) -> None:
        """Leave partitions to others. A run under way goes on: its request has one version, whoever is first."""
        lost = {place.partition for place in places}
        self._owned.revoked(lost)
        self._waiting = deque(each for each in self._waiting if each.partition() not in lost)

    def _take(self, consumer: Consumer, pool: ThreadPoolExecutor, runners: MakeRunners, message: Message) -> None:
        for request in readable([message], lambda record: decode(record.value(), RetrainRequest)):
            self._answer_one(consumer, pool, runners, request)
        _commit(consumer, message)

    def _answer_one(
        self, consumer: Consumer, pool: ThreadPoolExecutor, runners: MakeRunners, request: RetrainRequest
    ) -> None:
        before = self._patiently(lambda: self._ended(request.request_id))
        if before is not None:
            logger.info("the request was answered before", request=request.request_id, outcome=before.outcome)
            self._patiently(lambda: self._answer(before))
            return
        cancelled = self._patiently(lambda: self._cancelled.why(request.request_id))
        if cancelled is None:
            logger.info("run begins", request=request.request_id, rule=request.rule)
        else:
            logger.info("a cancelled run ends before its fit", request=request.request_id, reason=cancelled)
        consumer.pause(consumer.assignment())
        finished = self._patiently(lambda: self._run(consumer, pool, runners, request))
        why = self._patiently(lambda: self._cancelled.why(request.request_id))
        if finished is not None and finished.outcome == "failed" and why is not None:
            finished = msgspec.structs.replace(finished, reason=why, cancelled=True)
        if finished is not None:
            logger.info("run ended", outcome=finished.outcome, reason=finished.reason, seconds=finished.seconds)
            self._patiently(lambda: self._answer(finished))
            failpoint("after-answer")
        consumer.resume(consumer.assignment())

    def _run(
        self, consumer: Consumer, pool: ThreadPoolExecutor, runners: MakeRunners, request: RetrainRequest
    ) -> RunEnded | None:
        """Return how the run ended; None if the project has no such model."""

        def run() -> RunEnded | None:
            runner = runners().get(request.model)
            return None if runner is None else runner.run(request)

        future: Future[RunEnded | None] = pool.submit(run)
        while not future.done():
            self.pulse.moved()
            if self._stopping.is_set():
                raise StoppingError(f"request {request.request_id} was not answered before the trainer stopped")
            other = consumer.poll(_POLL_S)  # keeps the membership; after a rebalance the pause may be over
            if other is not None:
                self._waiting.append(other)
        return future.result()


def _commit(consumer: Consumer, message: Message) -> None:
    """Tell Kafka that the request was answered. If that fails, it is taken again, and its id makes that harmless."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    try:
        consumer.commit(message=message, asynchronous=False)
    except KafkaException as error:
        logger.warning("a retrain request could not be committed", error=str(error), offset=message.offset())
