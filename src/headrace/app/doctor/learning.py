"""Checks the learning loop: rules that fail, runs that have not ended, applications without the version they want."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.base.times import SECOND, utc_datetime
from headrace.bus.kafka_clients import admin
from headrace.bus.tail import TopicTail
from headrace.bus.topics import existing_incarnations, has_topic
from headrace.bus.unreadable_records import readable
from headrace.errors import BusUnavailableError, NotInLogYetError
from headrace.models.kafka_model_event_log import KafkaModelEventLog
from headrace.models.model_events import Acknowledgement, decode_acknowledgement
from headrace.models.model_state import fold_all
from headrace.trainers.process.last_decisions import last_decisions
from headrace.trainers.process.runner_loop import trainers_group
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded, decode
from headrace.trainers.triggers.watched_inputs import marks_of, said_marks

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka import Message
    from confluent_kafka.admin import AdminClient

    from headrace.bus.control_topics import ControlTopics
    from headrace.models.model_state import ModelState
    from headrace.models.publication_signing import PublicationSigning

_LONG_US = 3_600 * SECOND
"""A run that has been open for longer is a warning."""
_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class AskedRun:
    """A retrain request: its partition, when it was asked for, and whether a trainer is done with it."""

    request: RetrainRequest
    at_us: int
    is_taken: bool = False
    partition: int = 0


def examine(servers: str, topics: ControlTopics, models: Collection[str] | None, now_us: int) -> Iterator[Finding]:
    """Check the rules, runs and applications of some models. Raises BusUnavailableError.

    None: the runs and applications of all models.
    """
    client = admin(servers)
    there = existing_incarnations(client, [topics.retrain_requests, topics.runs, topics.model_acks, topics.decisions])

    def records(topic: str) -> list[Message]:
        if topic not in there:
            return []
        with closing(TopicTail(servers, [topic], from_beginning=True)) as tail:
            return tail.drain()

    if models and topics.decisions in there:
        yield from check_rules(last_decisions(servers, topics.decisions, models).values())
    asked = records(topics.retrain_requests)
    if asked:
        trainers = _Trainers(client, topics)
        done = trainers.done({message.partition() or 0 for message in asked})
        requests = [_asked(message, done) for message in asked]
        ends = readable(records(topics.runs), lambda record: decode(record.value(), RunEnded))
        ended = {run.request_id for run in ends}
        known = [each for found in requests for each in found if models is None or each.request.model in models]
        yield from check_runs(known, ended, trainers.names, now_us)
    answers = readable(records(topics.model_acks), lambda record: decode_acknowledgement(record.value()))
    yield from check_applications(answer for answer in answers if models is None or answer.model in models)


def _asked(message: Message, done: Mapping[int, int]) -> list[AskedRun]:
    partition, at_us = message.partition() or 0, message.timestamp()[1] * 1_000
    is_taken = (message.offset() or 0) < done.get(partition, 0)
    found = readable([message], lambda record: decode(record.value(), RetrainRequest))
    return [AskedRun(request, at_us, is_taken, partition) for request in found]


def check_rules(last: Iterable[DecisionRecord]) -> Iterator[Finding]:
    """Check that the last decision on each model is no error, and that no watched input of it is out of range."""
    for record in sorted(last, key=lambda record: record.model):
        if record.kind == "error" and record.operator:
            yield warning(
                f"model {record.model}",
                f"a request waits since {_time(record.t_us)}: {record.reason}",
                "the trainer tries again by itself; if it was answered since, `headrace runs list` shows the run",
            )
        elif record.kind == "error":
            since_us = record.since_us or record.t_us
            yield error(
                f"model {record.model}",
                f"its rules fail since {_time(since_us)}, last at {_time(record.t_us)}: {record.reason}",
                f"{_mended(record.reason)}. The trainer tries again by itself; until then nothing asks for a run of it",
            )
        elif record.decision is not None and (marks := marks_of(record.decision.inputs)):
            yield warning(
                f"model {record.model}",
                f"lately out of range: {said_marks(marks)}",
                f"`headrace triggers explain {record.model}` shows all watched inputs",
            )


def _mended(reason: str) -> str:
    """Return what a person can do about an error of rules."""
    if reason.startswith(NotInLogYetError.__name__):
        return "start or restart `headrace worker` with this definition: it makes what is missing"
    return "correct the rule, or the data that it reads: the trainer's log has the traceback"


def check_runs(
    asked: Iterable[AskedRun],
    ended: Collection[str],
    trainers: Callable[[], Mapping[int, Sequence[str]]],
    now_us: int,
) -> Iterator[Finding]:
    """Check that every run that was asked for ends. ``trainers`` names the trainer of each partition, if it has one."""
    first: dict[str, AskedRun] = {}
    for each in asked:
        if each.request.request_id not in ended:
            first.setdefault(each.request.request_id, each)
    of_partitions = trainers() if first else {}
    for name, each in first.items():
        holders = of_partitions.get(each.partition, [])
        subject = f"model {each.request.model}"
        found = f"run {name} was asked for at {_time(each.at_us)} by rule {each.request.rule!r}, and has not ended: "
        if each.is_taken:
            yield warning(
                subject,
                f"{found}a trainer left it out, because it does not have the model or cannot read the request",
                "start the trainers with this project, of one release; until a run ends, the rules ask for no other",
            )
        elif not holders:
            yield warning(subject, f"{found}no trainer takes requests", "start `headrace trainer`")
        elif now_us - each.at_us > _LONG_US:
            yield warning(
                subject,
                f"{found}it is with trainer {', '.join(holders)}, which does one run after the other",
                "see the trainer's log: it fits, or it waits for Kafka or the event log. If you stop it, the next "
                "trainer takes the request again",
            )
        else:
            yield ok(subject, f"{found}it is with trainer {', '.join(holders)}, which does one run after the other")


def examine_approvals(
    servers: str, topics: ControlTopics, signing: PublicationSigning, models: Collection[str] | None
) -> Iterator[Finding]:
    """Check that no version waits for a person. Raises BusUnavailableError."""
    if not has_topic(servers, topics.models):
        return
    with closing(
        KafkaModelEventLog(servers, topics.models, signing=signing, timeout=timedelta(seconds=_TIMEOUT_S))
    ) as log:
        states = fold_all(entry.event for entry in log.read() if entry.event is not None)
    yield from check_approvals({name: state for name, state in states.items() if models is None or name in models})


def check_approvals(states: Mapping[str, ModelState]) -> Iterator[Finding]:
    """Check that no version waits for its approval."""
    for name, state in sorted(states.items()):
        waiting = state.waiting
        if waiting is not None:
            version = waiting.data.version
            yield warning(
                f"model {name}",
                f"version {version} passed its gate, and waits for approval since {_time(waiting.at_us)}",
                f"`headrace models promote {name} {version} --reason …` makes it live, `headrace models retire "
                f"{name} {version} --reason …` rejects it",
            )


def check_applications(answers: Iterable[Acknowledgement]) -> Iterator[Finding]:
    """Check that the latest acknowledgement of each application says that it has loaded its version."""
    latest: dict[tuple[str, str], tuple[Acknowledgement, int]] = {}
    for answer in answers:
        who = answer.application, answer.model
        before, since_us = latest.get(who, (None, 0))
        again = before is not None and not before.ok and before.event_id == answer.event_id
        latest[who] = answer, since_us if again else answer.at_us
    for answer, since_us in latest.values():
        if not answer.ok:
            yield warning(
                f"application {answer.application}",
                f"it could not load version {answer.version} of model {answer.model} since {_time(since_us)}: "
                f"{answer.reason}; it keeps the version that it had, if there is one",
                "remove the reason, and start the application again; or `headrace models rollback "
                f"{answer.model} VERSION`. If there is no such application any more, nothing is to be done",
            )


class _Trainers:
    """The trainers of a namespace, as the group that takes retrain requests."""

    def __init__(self, client: AdminClient, topics: ControlTopics) -> None:
        self._client, self._group, self._topic = client, trainers_group(topics.namespace), topics.retrain_requests

    def done(self, partitions: Collection[int]) -> dict[int, int]:
        """Return for each partition the offset below which requests were answered or left out; 0 if it is not known."""
        from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition

        places = [TopicPartition(self._topic, partition) for partition in sorted(partitions)]
        asked = self._client.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(self._group, places)], request_timeout=_TIMEOUT_S
        )
        found = self._answer("offsets", asked)
        return {} if found is None else {each.partition: max(int(each.offset), 0) for each in found.topic_partitions}

    def names(self) -> dict[int, list[str]]:
        """Return the trainers of each partition of requests: at most one, unless it changes hands."""
        found: dict[int, list[str]] = {}
        asked = self._client.describe_consumer_groups([self._group], request_timeout=_TIMEOUT_S)
        group = self._answer("members", asked)
        for each in [] if group is None else group.members:
            for partition in self._partitions_of(each):
                found.setdefault(partition, []).append(f"{each.client_id} at {each.host.lstrip('/')}")
        return {partition: sorted(names) for partition, names in found.items()}

    def _answer(self, what: str, asked: Mapping[str, Future[Any]]) -> Any:
        """Return what Kafka says of the group; None if no trainer has ever joined it."""
        from confluent_kafka import KafkaException

        try:
            return asked[self._group].result(_TIMEOUT_S)
        except KafkaException:
            return None
        except TimeoutError as error:
            raise BusUnavailableError(f"the {what} of group {self._group!r} are not known: {error}") from error

    def _partitions_of(self, member: object) -> list[int]:
        places = getattr(getattr(member, "assignment", None), "topic_partitions", None) or []
        return [place.partition for place in places if place.topic == self._topic]


def _time(us: int) -> str:
    return utc_datetime(us - us % SECOND).isoformat().replace("+00:00", "Z")
