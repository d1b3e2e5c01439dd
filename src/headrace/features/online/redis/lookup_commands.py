"""What a look-up asks of Redis, and what it makes of the replies: for who waits and for who awaits."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec
from redis import exceptions

from headrace.base.redaction import redacted
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online.redis.lua import LOOK_UP
from headrace.features.online.redis.script import Transaction
from headrace.features.online.store import ShardSnapshot, StoredFields, shard_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.features.online.redis.key_names import KeyNames
    from headrace.features.online.redis.retrying_call import ShardCommand

    _KeyPlaces = tuple[Sequence[int], Sequence[int]]
    WantedKeys = Sequence[tuple[str, Sequence[bytes]]]
T = TypeVar("T")
_AWAY = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, exceptions.ReadOnlyError,
    exceptions.MasterDownError, exceptions.OutOfMemoryError, exceptions.ClusterDownError, exceptions.TryAgainError,
    exceptions.AskError, exceptions.RedisClusterException,
)  # fmt: skip
_FOR_NOW = ("MISCONF", "NOREPLICAS", "BUSY")
"""Refusals that end by themselves or by an operator: a full disk, replicas that are away, a script that takes long."""


@dataclass(frozen=True)
class ReadRequest(Generic[T]):
    """Commands, and what makes the answer of their replies."""

    commands: Sequence[ShardCommand]
    answer: Callable[[Sequence[Any]], T]


def look_up(keys: KeyNames, wanted: WantedKeys) -> ReadRequest[list[StoredFields]]:
    """See the port."""
    return _of_node(keys, wanted) if keys.shards == 1 else _of_shards(keys, wanted)


def _of_node(keys: KeyNames, wanted: WantedKeys) -> ReadRequest[list[StoredFields]]:
    """What one node has is read in a transaction: a script takes it five times as long."""
    names: list[bytes] = []
    for view, of_view in wanted:
        names.append(keys.cursors(0, view))
        names += keys.entities(0, view, of_view)

    def answer(found: Sequence[Any]) -> list[StoredFields]:
        reply = _ShardReply(found[0])
        return [
            StoredFields({0: reply.moment()}, [0] * len(of_view), list(islice(reply.hashes, len(of_view))))
            for _, of_view in wanted
        ]

    return ReadRequest([(0, Transaction([("TIME",), *[("HGETALL", name) for name in names]]))], answer)


def _of_shards(keys: KeyNames, wanted: WantedKeys) -> ReadRequest[list[StoredFields]]:
    """What shards have is read by scripts: the slot of a shard may move meanwhile."""
    places = [_places(keys.shards, of_view) for _, of_view in wanted]
    names: dict[int, list[bytes]] = defaultdict(list)
    for (view, of_view), place in zip(wanted, places, strict=True):
        _name(keys, view, of_view, place, names)

    def answer(found: Sequence[Any]) -> list[StoredFields]:
        replies = {shard: _ShardReply(reply) for shard, reply in zip(names, found, strict=True)}
        return [_answer(place, replies) for place in places]

    return ReadRequest([(shard, LOOK_UP.call(own)) for shard, own in names.items()], answer)


def get_document(keys: KeyNames, name: str) -> ReadRequest[dict[str, Any] | None]:
    """See the port."""
    return ReadRequest([(0, ("GET", keys.document(name)))], lambda found: _decoded(found[0]))


def look_up_with(
    keys: KeyNames, name: str, wanted: WantedKeys
) -> ReadRequest[tuple[dict[str, Any] | None, list[StoredFields]]]:
    """See the port: the document is asked for first."""
    document, rest = get_document(keys, name), look_up(keys, wanted)
    return ReadRequest(
        [*document.commands, *rest.commands], lambda found: (document.answer(found[:1]), rest.answer(found[1:]))
    )


def _decoded(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else msgspec.json.decode(data)


def _places(shards: int, keys: Sequence[bytes]) -> _KeyPlaces:
    """The shard of each key, and each shard once; shard 0 if there is none."""
    found = [shard_of(key, shards) for key in keys]
    return found, tuple(dict.fromkeys(found)) or (0,)


def _name(
    keys: KeyNames, view: str, of_view: Sequence[bytes], places: _KeyPlaces, names: dict[int, list[bytes]]
) -> None:
    """Append what is to be read of a view to what is read of each shard: its cursors, then its keys."""
    shards, distinct = places
    for shard in distinct:
        names[shard].append(keys.cursors(shard, view))
    prefixes = {shard: keys.entity_prefix(shard, view) for shard in distinct}
    for shard, key in zip(shards, of_view, strict=True):
        names[shard].append(prefixes[shard] + key)


class _ShardReply:
    """What one shard was read as: its time, then hash after hash, as they were asked for."""

    def __init__(self, reply: Sequence[Any]) -> None:
        seconds, micros = reply[0]
        self._now_us = int(seconds) * 1_000_000 + int(micros)
        self.hashes: Iterator[Sequence[bytes]] = islice(reply, 1, None)

    def moment(self) -> ShardSnapshot:
        """Of the view that comes next."""
        return ShardSnapshot(self._now_us, next(self.hashes))


def _answer(places: _KeyPlaces, replies: Mapping[int, _ShardReply]) -> StoredFields:
    """The next view's."""
    shards, distinct = places
    moments = {shard: replies[shard].moment() for shard in distinct}
    return StoredFields(moments, shards, [next(replies[shard].hashes) for shard in shards])


@contextmanager
def telling(url: str) -> Iterator[None]:
    """Of errors of redis-py that end by themselves make OnlineStoreUnavailableError, in this context."""
    try:
        yield
    except _AWAY as error:
        message = f"the online store at {redacted(url)} does not answer: {error}"
        raise OnlineStoreUnavailableError(message) from error
    except exceptions.ResponseError as error:
        if not str(error).startswith(_FOR_NOW):
            raise
        message = f"the online store at {redacted(url)} takes nothing for now: {error}"
        raise OnlineStoreUnavailableError(message) from error
