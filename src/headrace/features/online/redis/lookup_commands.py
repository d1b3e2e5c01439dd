"""The commands that a look-up sends to Redis, and the functions that read their replies, for both kinds of client."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

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
    from headrace.features.online.store import WantedKeys
T = TypeVar("T")
_AWAY = (
    exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError, exceptions.ReadOnlyError,
    exceptions.MasterDownError, exceptions.OutOfMemoryError, exceptions.ClusterDownError, exceptions.TryAgainError,
    exceptions.AskError, exceptions.RedisClusterException,
)  # fmt: skip
_FOR_NOW = ("MISCONF", "NOREPLICAS", "BUSY")
"""Refusals that end by themselves, or that an operator ends: a full disk, absent replicas, a long script."""


@dataclass(frozen=True)
class ReadRequest(Generic[T]):
    """Commands, and the function that turns their replies into an answer."""

    commands: Sequence[ShardCommand]
    parse: Callable[[Sequence[Any]], T]


def look_up(keys: KeyNames, wanted: WantedKeys) -> ReadRequest[list[StoredFields]]:
    """Return the commands of a look-up: a transaction for a single node, a script for each shard of a cluster."""
    return _from_node(keys, wanted) if keys.shards == 1 else _from_shards(keys, wanted)


def _from_node(keys: KeyNames, wanted: WantedKeys) -> ReadRequest[list[StoredFields]]:
    """Read a single node in one ``MULTI … EXEC``. The node would need five times as long for a script."""
    names: list[bytes] = []
    for view, of_view in wanted:
        names.append(keys.cursors(0, view))
        names += keys.entities(0, view, of_view)

    def parse(replies: Sequence[Any]) -> list[StoredFields]:
        reply = _ShardReply(replies[0])
        return [
            StoredFields({0: reply.snapshot()}, [0] * len(of_view), list(islice(reply.hashes, len(of_view))))
            for _, of_view in wanted
        ]

    return ReadRequest([(0, Transaction([("TIME",), *[("HGETALL", name) for name in names]]))], parse)


def _from_shards(keys: KeyNames, wanted: WantedKeys) -> ReadRequest[list[StoredFields]]:
    """Read each shard of a cluster by a script, because the shard's slot may move to another node meanwhile."""
    places = [_shards_of(keys.shards, of_view) for _, of_view in wanted]
    names: dict[int, list[bytes]] = defaultdict(list)
    for (view, of_view), place in zip(wanted, places, strict=True):
        _append_names(keys, view, of_view, place, names)

    def parse(replies: Sequence[Any]) -> list[StoredFields]:
        by_shard = {shard: _ShardReply(reply) for shard, reply in zip(names, replies, strict=True)}
        return [_next_fields(place, by_shard) for place in places]

    return ReadRequest([(shard, LOOK_UP.call(own)) for shard, own in names.items()], parse)


def get_documents(keys: KeyNames, names: Sequence[str]) -> ReadRequest[list[dict[str, Any] | None]]:
    """Return the commands that read documents: one GET for each name."""
    return ReadRequest(
        [(0, ("GET", keys.document(name))) for name in names], lambda replies: [_decoded(data) for data in replies]
    )


def look_up_with(
    keys: KeyNames, names: Sequence[str], wanted: WantedKeys
) -> ReadRequest[tuple[list[dict[str, Any] | None], list[StoredFields]]]:
    """Return the commands that read documents, then those of a look-up."""
    documents, fields = get_documents(keys, names), look_up(keys, wanted)
    return ReadRequest(
        [*documents.commands, *fields.commands],
        lambda replies: (documents.parse(replies[: len(names)]), fields.parse(replies[len(names) :])),
    )


def _decoded(data: bytes | None) -> dict[str, Any] | None:
    return None if data is None else msgspec.json.decode(data)


class _KeyShards(NamedTuple):
    """The shard of each key of a view, and each of these shards once (shard 0 for a view without keys)."""

    of_keys: Sequence[int]
    distinct: Sequence[int]


def _shards_of(shards: int, keys: Sequence[bytes]) -> _KeyShards:
    found = [shard_of(key, shards) for key in keys]
    return _KeyShards(found, tuple(dict.fromkeys(found)) or (0,))


def _append_names(
    keys: KeyNames, view: str, of_view: Sequence[bytes], shards: _KeyShards, names: dict[int, list[bytes]]
) -> None:
    """Append the Redis keys of one view to those of each shard: the view's cursors, then its entities."""
    for shard in shards.distinct:
        names[shard].append(keys.cursors(shard, view))
    prefixes = {shard: keys.entity_prefix(shard, view) for shard in shards.distinct}
    for shard, key in zip(shards.of_keys, of_view, strict=True):
        names[shard].append(prefixes[shard] + key)


class _ShardReply:
    """The reply of one shard: its time, then the hashes in the order of the command."""

    def __init__(self, reply: Sequence[Any]) -> None:
        seconds, micros = reply[0]
        self._now_us = int(seconds) * 1_000_000 + int(micros)
        self.hashes: Iterator[Sequence[bytes]] = islice(reply, 1, None)

    def snapshot(self) -> ShardSnapshot:
        """The cursors of the next view. Called once for each view of the shard, before its entities are read."""
        return ShardSnapshot(self._now_us, next(self.hashes))


def _next_fields(shards: _KeyShards, replies: Mapping[int, _ShardReply]) -> StoredFields:
    """The fields of the next view. Called for the views in the order of the command."""
    snapshots = {shard: replies[shard].snapshot() for shard in shards.distinct}
    return StoredFields(snapshots, shards.of_keys, [next(replies[shard].hashes) for shard in shards.of_keys])


@contextmanager
def typed_errors(url: str) -> Iterator[None]:
    """Turn redis-py's temporary errors into OnlineStoreUnavailableError."""
    try:
        yield
    except _AWAY as error:
        what = "does not let this user in" if isinstance(error, exceptions.AuthenticationError) else "does not answer"
        message = f"the online store at {redacted(url)} {what}: {error}"
        raise OnlineStoreUnavailableError(message) from error
    except exceptions.ResponseError as error:
        if not str(error).startswith(_FOR_NOW):
            raise
        message = f"the online store at {redacted(url)} takes nothing for now: {error}"
        raise OnlineStoreUnavailableError(message) from error
