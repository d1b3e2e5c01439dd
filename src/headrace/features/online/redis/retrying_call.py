"""A call of Redis as a generator, which does not wait: it decides which node gets a command, and acts on errors.

All nodes are asked at once. Commands whose failure may pass are sent again together, after a pause (exponential,
full jitter). So every command must be safe to send twice: all commands of the online store are. The clients read and
write: node_client.py and cluster_client.py wait, async_clients.py awaits.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from redis import exceptions
from redis.backoff import FullJitterBackoff

from headrace.features.online.redis.script import Script

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

ShardCommand = tuple[int, "Sequence[Any]"]
"""A shard, whose node has all keys of the command, and the words of the command."""
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)
"""All errors that redis-py raises."""
_BACKOFF = FullJitterBackoff(cap=0.25, base=0.01)
_LOST = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError, exceptions.ReadOnlyError,
    exceptions.MasterDownError, exceptions.RedisClusterException,
)  # fmt: skip
"""Errors of a node that does not answer, or that is not the master any more."""
_FOR_GOOD = (exceptions.AuthenticationError, exceptions.AuthorizationError)
"""Failures that a person must end. redis-py makes them ConnectionErrors."""
_ASKING = ("ASKING",)
_REDIRECTS = 5
"""The number of times that nodes may redirect a call whose time is over."""


class ShardNodes(Protocol):
    """The nodes of the shards."""

    def node(self, shard: int) -> Any:
        """Return the node of a shard. Raises RedisClusterException if no node has it."""
        ...

    def moved(self, error: exceptions.MovedError) -> None:
        """Take note of a slot's new node. Called for each MOVED reply."""
        ...

    def asked(self, error: exceptions.AskError) -> Any:
        """Return the node to ask this once, None if it is not known yet. Called for each ASK reply."""
        ...


@dataclass(frozen=True)
class ConnectStep:
    """Connect. The reply is :class:`ShardNodes`, or the error."""


@dataclass(frozen=True)
class SendStep:
    """Send commands to all these nodes at once. The reply has, for each node, a reply or error for each command."""

    by_node: Mapping[Any, Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class PauseStep:
    """Wait, and then, if ``look_again``, ask the cluster where the slots are."""

    seconds: float
    look_again: bool


@dataclass(frozen=True)
class ForgetSlotsStep:
    """Before the next call, ask the cluster where the slots are. The present call has no time left."""


CallStep = ConnectStep | SendStep | PauseStep | ForgetSlotsStep


def call_steps(commands: Sequence[ShardCommand], retry_s: float) -> Generator[CallStep, Any, list[Any]]:
    """Yield the steps of a call. They return its replies, in order; some may be errors."""
    until, failures, redirects = time.monotonic() + retry_s, count(1), count(1)
    while isinstance(places := (yield ConnectStep()), Exception):
        if not _is_for_now(places) or time.monotonic() >= until:
            return [places] * len(commands)
        yield PauseStep(_BACKOFF.compute(next(failures)), look_again=False)
    call = _RetryingCall(commands)
    while call.todo:
        plan = call.plan(places)
        call.take(plan, (yield SendStep({node: [words for _, words in own] for node, own in plan.items()})))
        trouble = call.learn(places)
        if trouble is None:
            continue
        if time.monotonic() >= until and (trouble.waits or next(redirects) > _REDIRECTS):
            if trouble.is_lost:
                yield ForgetSlotsStep()
            call.give_up()
        else:
            yield PauseStep(_BACKOFF.compute(next(failures)) if trouble.waits else 0.0, trouble.is_lost)
    return call.replies


def _is_for_now(error: Exception) -> bool:
    return isinstance(error, (*_LOST, exceptions.TryAgainError)) and not isinstance(error, _FOR_GOOD)


class _CallTrouble(NamedTuple):
    waits: bool
    is_lost: bool


class _RetryingCall:
    """The commands of a call, and its replies so far."""

    def __init__(self, commands: Sequence[ShardCommand]) -> None:
        self._shards = [shard for shard, _ in commands]
        self._words = [words for _, words in commands]
        self._in_full: set[int] = set()
        self.replies: list[Any] = [None] * len(commands)
        self.todo: dict[int, Any] = dict.fromkeys(range(len(commands)))
        """The commands to send, each with the node to ask this once (None: the shard's node)."""

    def plan(self, places: ShardNodes) -> dict[Any, list[tuple[int, Sequence[Any]]]]:
        """Return the commands for each node, each with its number; -1 for one whose reply is not needed."""
        plan: dict[Any, list[tuple[int, Sequence[Any]]]] = defaultdict(list)
        for n, asked in self.todo.items():
            try:
                node = asked or places.node(self._shards[n])
            except exceptions.RedisClusterException as error:
                self.replies[n] = error
                continue
            if asked:
                plan[node].append((-1, _ASKING))
            plan[node].append((n, self._words[n]))
        return plan

    def take(self, plan: Mapping[Any, Sequence[tuple[int, Sequence[Any]]]], found: Mapping[Any, Sequence[Any]]) -> None:
        """Keep the replies."""
        for node, own in plan.items():
            for (n, _), reply in zip(own, found[node], strict=True):
                if n >= 0:
                    self.replies[n] = reply

    def learn(self, places: ShardNodes) -> _CallTrouble | None:
        """Decide from the replies which commands to send again. Returns None if they can be sent at once."""
        sent, self.todo, self._in_full = self.todo, {}, set()
        waits = is_lost = is_moved = False
        for n in sent:
            match self.replies[n]:
                case exceptions.NoScriptError():  # after SCRIPT FLUSH, or on a node that is new
                    self._words[n] = Script.in_full(self._words[n])
                    self._in_full.add(n)
                    self.todo[n] = None
                case exceptions.MovedError() as moved:
                    places.moved(moved)
                    self.todo[n], is_moved = None, True
                case exceptions.AskError() as ask:
                    self.todo[n], is_moved = places.asked(ask), True
                    is_lost |= self.todo[n] is None
                    waits |= is_lost
                case Exception() as error if _is_for_now(error):
                    self.todo[n], waits = None, True
                    is_lost |= isinstance(error, _LOST) and not isinstance(error, exceptions.MaxConnectionsError)
        return _CallTrouble(waits, is_lost) if waits or is_moved else None

    def give_up(self) -> None:
        """Send only those scripts again that the node did not know: their text was not tried yet."""
        self.todo = dict.fromkeys(self._in_full)
