"""The runner's loop while Kafka or the event log does not answer."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest
from msgspec import UNSET

from headrace.errors import BusUnavailableError, StoppingError
from headrace.trainers.process import runner_loop
from headrace.trainers.process.cancelled_runs import CancelledRuns
from headrace.trainers.process.ended_runs import EndedRuns
from headrace.trainers.process.owned_partitions import OwnedPartitions
from headrace.trainers.process.runner_loop import RunnerLoop
from headrace.trainers.runs.messages import RetrainRequest, RunEnded
from headrace.trainers.runs.operator_requests import OperatorRequest

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Consumer, Message

    from headrace.trainers.runs.training_runner import TrainingRunner

REQUEST = RetrainRequest(request_id="r", model="m", rule="volume", reason="", t_us=1, matured_labels=2)
FINISHED = RunEnded(request_id="r", model="m", outcome="refused", reason="", rule="volume", t_us=1, matured_labels=2)


class Request:
    """The request's record."""

    def value(self) -> bytes:
        return msgspec.json.encode(REQUEST)


class Group:
    """A consumer that remembers what was committed."""

    committed = 0

    def assignment(self) -> list[Any]:
        return []

    def pause(self, _: list[Any]) -> None: ...

    resume = pause

    def poll(self, _: float) -> None: ...

    def commit(self, **_: Any) -> None:
        self.committed += 1


class Failing:
    """Fails so many times, then works."""

    def __init__(self, times: int) -> None:
        self.left, self.done = times, 0

    def __call__(self, *_: object) -> RunEnded:
        if self.left:
            self.left -= 1
            raise BusUnavailableError("no answer")
        self.done += 1
        return FINISHED

    run = __call__


def runners(runner: Failing) -> Callable[[], dict[str, TrainingRunner]]:
    return lambda: {"m": cast("TrainingRunner", runner)}


def test_a_stop_gives_a_run_up_and_its_request_is_taken_again() -> None:
    began, ends = threading.Event(), threading.Event()

    class Endless:
        def run(self, _: RetrainRequest) -> RunEnded:
            began.set()
            ends.wait(30)
            return FINISHED

    group, answered = Group(), Failing(0)
    loop = RunnerLoop("127.0.0.1:1", "g", dict, cast("Any", answered))
    with ThreadPoolExecutor(2) as pool:
        runner = cast("TrainingRunner", Endless())
        taking = pool.submit(
            loop._take, cast("Consumer", group), pool, lambda: {"m": runner}, cast("Message", Request())
        )
        assert began.wait(10)
        loop.stop()
        with pytest.raises(StoppingError, match="request r was not answered"):
            taking.result(10)
        ends.set()
    assert (group.committed, answered.done) == (0, 0)


def test_a_request_that_was_answered_gets_the_same_answer_without_a_run() -> None:
    runner, group, said = Failing(0), Group(), list[RunEnded]()
    known, unread = {"r": FINISHED}, [BusUnavailableError("no answer")]

    def ended(request_id: str) -> RunEnded | None:
        if unread:
            raise unread.pop()
        return known.get(request_id)

    loop = RunnerLoop("127.0.0.1:1", "g", dict, said.append, ended=ended)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            loop._take(cast("Consumer", group), pool, runners(runner), cast("Message", Request()))
    assert (runner.done, said, group.committed) == (0, [FINISHED, FINISHED], 2)


def test_a_request_that_comes_again_right_after_its_answer_is_not_run_again() -> None:
    class Topic(list[RunEnded]):
        """The topic of runs: each end is read once."""

        def drain(self) -> list[Any]:
            found = [SimpleNamespace(value=partial(msgspec.json.encode, each)) for each in self]
            self.clear()
            return found

    topic, runner = Topic(), Failing(0)
    loop = RunnerLoop("127.0.0.1:1", "g", dict, topic.append, ended=EndedRuns(topic).find)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(3):
            loop._take(cast("Consumer", Group()), pool, runners(runner), cast("Message", Request()))
    assert (runner.done, topic) == (1, [FINISHED])


def test_a_run_waits_for_what_does_not_answer_and_is_answered_once() -> None:
    runner, answer, group = Failing(2), Failing(1), Group()
    loop = RunnerLoop("127.0.0.1:1", "g", dict, cast("Any", answer))
    with ThreadPoolExecutor(1) as pool:
        loop._take(cast("Consumer", group), pool, runners(runner), cast("Message", Request()))
    assert (runner.done, answer.done, group.committed) == (1, 1, 1)


def test_the_end_of_a_cancelled_run_says_who_cancelled_it_and_why() -> None:
    cancelled, said = CancelledRuns(), list[RunEnded]()
    request = OperatorRequest(
        id="c", model="m", action="cancel", by="ann", reason="bad day", at_us=0, request_id=REQUEST.request_id
    )

    class Failed:
        def run(self, _: RetrainRequest) -> RunEnded:
            return msgspec.structs.replace(FINISHED, outcome="failed", reason="FitError: …")

    loop = RunnerLoop("127.0.0.1:1", "g", dict, said.append, cancelled=cancelled)
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            loop._take(cast("Consumer", Group()), pool, runners(cast("Any", Failed())), cast("Message", Request()))
            cancelled.hear(request)
    assert [(end.reason, end.cancelled) for end in said] == [
        ("FitError: …", UNSET),
        ("cancelled by ann: bad day", True),
    ]


def test_the_consumer_is_asked_nothing_while_it_calls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    known = SimpleNamespace(topics={"t": SimpleNamespace(partitions=dict.fromkeys(range(16)))})
    monkeypatch.setattr(runner_loop, "admin", lambda _: SimpleNamespace(list_topics=lambda *_: known))
    owned, consumer = OwnedPartitions(), cast("Consumer", object())
    loop = RunnerLoop("127.0.0.1:1", "g", dict, lambda _: None, owned=owned)
    places = [cast("Any", SimpleNamespace(topic="t", partition=number)) for number in (11, 12)]
    loop._assigned(consumer, places)
    assert owned.has("delay")  # its partition is 11 of 16
    loop._revoked(consumer, places)
    assert not owned.has("delay")


def test_the_runners_are_made_before_there_is_a_request() -> None:
    made = threading.Event()

    def make() -> dict[str, TrainingRunner]:
        made.set()
        return {}

    loop = RunnerLoop("127.0.0.1:1", "g", make, lambda _: None)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        assert made.wait(30)
    finally:
        loop.stop()
        thread.join(30)
    assert not thread.is_alive()
