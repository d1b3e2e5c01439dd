"""A call of Redis, all of it but the waiting: what is sent to which node, and what is made of errors.

All nodes are asked at once; all that failed for now is sent again together, after a while (exponential, full jitter).
Whatever is sent again must be safe to send again: all that the online store sends is. Those who read and write are the
links: blocking ones in redis_link.py, ones to be awaited in async_link.py.
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
"""The shard whose node has all its keys, and the words."""
ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)
"""All that redis-py raises."""
_BACKOFF = FullJitterBackoff(cap=0.25, base=0.01)
_LOST = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.ClusterDownError, exceptions.ReadOnlyError,
    exceptions.MasterDownError, exceptions.RedisClusterException,
)  # fmt: skip
"""Whoever was asked is away, or not the master any more."""
_FOR_GOOD = (exceptions.AuthenticationError, exceptions.AuthorizationError)
"""redis-py counts them among the above."""
_ASKING = ("ASKING",)
_REDIRECTS = 5
"""So often nodes may send a call elsewhere when its time is over."""


class ShardNodes(Protocol):
    """Which node has what."""

    def node(self, shard: int) -> Any:
        """The node of a shard. Raises RedisClusterException if nobody has it."""
        ...

    def moved(self, error: exceptions.MovedError) -> None:
        """A node said who has a slot now."""
        ...

    def asked(self, error: exceptions.AskError) -> Any:
        """The node that is to be asked this once; None if it is not known yet."""
        ...


@dataclass(frozen=True)
class ConnectStep:
    """Be ready to send: the answer is :class:`ShardNodes`, or the error."""


@dataclass(frozen=True)
class SendStep:
    """Ask nodes at once: the answer is as many replies of each, or errors."""

    by_node: Mapping[Any, Sequence[Sequence[Any]]]


@dataclass(frozen=True)
class PauseStep:
    """Wait, and then perhaps find out anew where the slots are."""

    seconds: float
    look_again: bool


@dataclass(frozen=True)
class ForgetSlotsStep:
    """There is no time to find out where the slots are: the next call does, before it asks."""


CallStep = ConnectStep | SendStep | PauseStep | ForgetSlotsStep


def call_steps(commands: Sequence[ShardCommand], retry_s: float) -> Generator[CallStep, Any, list[Any]]:
    """The steps of a call, which end with its replies, in order; some may be errors."""
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
    """The commands of a call, and what was answered so far."""

    def __init__(self, commands: Sequence[ShardCommand]) -> None:
        self._shards = [shard for shard, _ in commands]
        self._words = [words for _, words in commands]
        self._in_full: set[int] = set()
        self.replies: list[Any] = [None] * len(commands)
        self.todo: dict[int, Any] = dict.fromkeys(range(len(commands)))
        """What is to be sent, each with the node that is to be asked this once."""

    def plan(self, places: ShardNodes) -> dict[Any, list[tuple[int, Sequence[Any]]]]:
        """Of each node what to say, each with the command that the reply is of; -1: of none."""
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
        """Make of the errors what is to be sent next. None: at once, and never a second time."""
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
        """Send nothing again but the scripts that are not known: that was not tried yet."""
        self.todo = dict.fromkeys(self._in_full)
