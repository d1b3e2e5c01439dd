"""What a call of Redis sends, and makes of errors: no server, no waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis import exceptions

from headrace.features.online.redis.retrying_call import ConnectStep, ForgetSlotsStep, PauseStep, SendStep, call_steps
from headrace.features.online.redis.script import Script

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONG_S = 3_600.0
NOBODY: Any = exceptions.SlotNotCoveredError("nobody has it")  # type: ignore[no-untyped-call]
ECHO = Script("return ARGV[1]")
GET = ("GET", "k")


class Places:
    """Shard 0 is on a, all others on b, until somebody says otherwise."""

    def __init__(self) -> None:
        self.own = {0: "a"}

    def node(self, shard: int) -> str:
        if shard == 99:
            raise NOBODY
        return self.own.get(shard, "b")

    def moved(self, error: exceptions.MovedError) -> None:
        self.own[error.slot_id] = error.host

    def asked(self, error: exceptions.AskError) -> str | None:
        return None if error.host == "unknown" else error.host


class Server:
    """Answers what it was told to, by node; notes what it was sent, and for how long it was let be."""

    def __init__(self, **answers: list[Any]) -> None:
        self.answers = answers
        self.sent: list[tuple[str, Sequence[Any]]] = []
        self.pauses: list[PauseStep] = []
        self.is_doubted = False

    def call(self, *commands: tuple[int, Sequence[Any]], retry_s: float = LONG_S) -> list[Any]:
        steps, found = call_steps(commands, retry_s), None
        while True:
            try:
                step = steps.send(found)
            except StopIteration as end:
                return list(end.value)
            match step:
                case ConnectStep():
                    found = self.answers.get("connect", [Places()]).pop(0)
                case SendStep(by_node):
                    self.sent += [(node, words) for node, lines in by_node.items() for words in lines]
                    found = {node: [self.answers[node].pop(0) for _ in lines] for node, lines in by_node.items()}
                case PauseStep():
                    self.pauses.append(step)
                    found = None
                case ForgetSlotsStep():
                    self.is_doubted = True
                    found = None


def lost() -> exceptions.RedisError:
    return exceptions.ConnectionError("away")


def test_all_nodes_are_asked_at_once_and_replies_come_in_order() -> None:
    server = Server(a=[1, 3], b=[2])
    assert server.call((0, GET), (1, GET), (0, GET)) == [1, 2, 3]
    assert ([node for node, _ in server.sent], server.pauses) == (["a", "a", "b"], [])


def test_only_failed_commands_are_sent_again_after_a_random_wait_that_grows() -> None:
    server = Server(a=[lost(), lost(), lost(), 1], b=[2])
    assert server.call((0, GET), (1, GET)) == [1, 2]
    assert [node for node, _ in server.sent] == ["a", "b", "a", "a", "a"]
    assert [pause.look_again for pause in server.pauses] == [True] * 3
    bounds = [0.02, 0.04, 0.08]
    assert all(0 <= pause.seconds <= bound for pause, bound in zip(server.pauses, bounds, strict=True))


def test_a_wait_between_rounds_is_at_most_a_quarter_of_a_second() -> None:
    server = Server(a=[*(lost() for _ in range(60)), 1])
    assert server.call((0, GET)) == [1]
    longest = max(pause.seconds for pause in server.pauses)
    assert 0.125 < longest <= 0.25


@pytest.mark.parametrize(
    "error",
    [
        exceptions.OutOfMemoryError("full"),
        exceptions.AuthenticationError("who"),
        exceptions.ResponseError("MISCONF"),
        exceptions.ResponseError("WRONGTYPE"),
    ],
)
def test_a_command_with_a_lasting_error_is_not_sent_again(error: Exception) -> None:
    assert Server(a=[error]).call((0, GET)) == [error]


@pytest.mark.parametrize(
    ("error", "looks_again"),
    [
        (exceptions.TimeoutError("late"), True),
        (exceptions.ReadOnlyError("replica"), True),
        (exceptions.ClusterDownError("CLUSTERDOWN"), True),
        (exceptions.BusyLoadingError("loading"), True),
        (exceptions.TryAgainError("half moved"), False),
        (exceptions.MaxConnectionsError("all in use"), False),
    ],
)
def test_a_command_with_a_passing_error_is_sent_again(error: Exception, looks_again: bool) -> None:
    server = Server(a=[error, 1])
    assert server.call((0, GET)) == [1]
    assert [pause.look_again for pause in server.pauses] == [looks_again]


def test_in_the_end_the_error_is_the_answer_and_the_next_call_looks_where_the_slots_are() -> None:
    error = lost()
    server = Server(a=[error], b=[2])
    assert server.call((0, GET), (1, GET), retry_s=0) == [error, 2]
    assert server.is_doubted


def test_slots_are_not_doubted_when_all_nodes_answered() -> None:
    server = Server(a=[exceptions.TryAgainError("half moved")])
    server.call((0, GET), retry_s=0)
    assert not server.is_doubted
    assert not server.pauses


def test_a_slot_that_nobody_has_is_waited_for_beside_the_others() -> None:
    server = Server(a=[1])
    first, second = server.call((0, GET), (99, GET), retry_s=0)
    assert (first, second) == (1, NOBODY)


@pytest.mark.parametrize("retry_s", [0, LONG_S])
def test_an_unknown_script_is_sent_in_full_at_once_even_when_time_is_over(retry_s: float) -> None:
    server = Server(a=[exceptions.NoScriptError("what"), b"1"], b=[lost(), 2] if retry_s else [lost()])
    found = server.call((0, ECHO.call([b"k"], [1])), (1, GET), retry_s=retry_s)
    assert found[0] == b"1"
    assert ("a", ("EVAL", "return ARGV[1]", 1, b"k", 1)) in server.sent
    server = Server(a=[exceptions.NoScriptError("what"), b"1"])
    assert server.call((0, ECHO.call([b"k"], [1])), retry_s=retry_s) == [b"1"]
    assert not server.pauses


def test_a_moved_slot_is_asked_at_its_new_node_and_a_moving_slot_out_of_turn() -> None:
    server = Server(
        a=[exceptions.MovedError("0 c:1"), exceptions.AskError("0 d:1"), exceptions.AskError("0 unknown:1")],
        c=[1, 3], d=[b"OK", 2],
    )  # fmt: skip
    assert server.call((0, GET), (0, GET), (0, GET)) == [1, 2, 3]
    assert server.sent[3:] == [("c", GET), ("c", GET), ("d", ("ASKING",)), ("d", GET)]
    assert [pause.look_again for pause in server.pauses] == [True]


def test_a_redirection_is_followed_even_when_time_is_over_but_not_for_ever() -> None:
    server = Server(a=[exceptions.MovedError("0 c:1")], c=[exceptions.AskError("0 d:1")], d=[b"OK", 1])
    assert server.call((0, GET), retry_s=0) == [1]
    lies = [exceptions.MovedError("0 a:1") for _ in range(10)]
    assert Server(a=[*lies]).call((0, GET), retry_s=0) == [lies[5]]


@pytest.mark.parametrize("make", [lost, lambda: NOBODY])
def test_a_failed_connection_is_tried_again(make: Callable[[], Exception]) -> None:
    server = Server(connect=[make(), Places()], a=[1])
    assert server.call((0, GET)) == [1]
    assert len(server.pauses) == 1
    error = make()
    assert Server(connect=[error]).call((0, GET), (1, GET), retry_s=0) == [error, error]
    denied = exceptions.AuthenticationError("who")
    assert Server(connect=[denied]).call((0, GET)) == [denied]
