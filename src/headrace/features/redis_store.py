"""The online store in Redis or Valkey, one node or a cluster. docs/reference/online-format.md has keys and bytes.

Keys, with the hash tag of the shard (one shard on a single node, 64 on a cluster)::

    hr:{<shard>}:<namespace>:<view>@<version>:cursors            HASH  source partition → cursor
    hr:{<shard>}:<namespace>:<view>@<version>:e:<entity key>     HASH  source partition → field
    hr:{0}:<namespace>:doc:<name>                                STRING  JSON
"""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headrace.bus.address import redacted
from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online import Answer, Cursor, Moment, Source, Write, merged, shard_of
from headrace.features.redis_link import Command, Link, NodeLink, of_node
from headrace.features.redis_scripts import ACQUIRE, DROP, LOOK_UP, SCAVENGE, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    _Places = tuple[Sequence[int], Sequence[int]]
T = TypeVar("T")
_SCAN_COUNT = 1_000
_FOR_NOW = ("MISCONF", "NOREPLICAS", "BUSY")
"""Refusals that end by themselves or by an operator: a full disk, replicas that are away, a script that takes long."""


class RedisOnlineStore:
    """An :class:`~headrace.features.online.OnlineStore` over redis-py. Safe to share between threads.

    ``url``: ``redis://`` and ``rediss://`` for a single node, ``redis+cluster://`` and ``rediss+cluster://`` for any
    node of a cluster. Where the server is of the other kind, the first call raises SettingsError.
    """

    def __init__(self, url: str, namespace: str = "headrace", *, timeout_s: float = 5.0) -> None:
        from redis import exceptions  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._errors = (
            exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError,
            exceptions.ReadOnlyError, exceptions.MasterDownError, exceptions.OutOfMemoryError,
            exceptions.ClusterDownError, exceptions.TryAgainError, exceptions.AskError,
            exceptions.RedisClusterException,
        )  # fmt: skip
        self._refusal = exceptions.ResponseError
        self._link = _link_to(url, timeout_s)
        self._url = redacted(url)  # errors name it
        self.shards = self._link.shards
        self._prefixes = [f"hr:{{{shard}}}:{namespace}:".encode() for shard in range(self.shards)]
        self._fields = f"hr:{{{'0' if self.shards == 1 else '*'}}}:{namespace}:*:e:*".encode()

    def acquire(self, view: str, source: Source, owner: bytes, partitions: int) -> Sequence[Cursor | None]:
        """See the port."""
        arguments = [source.field, owner, partitions.to_bytes(4, "little")]
        commands = [(shard, ACQUIRE.call([self._cursors_key(shard, view)], arguments)) for shard in self._all()]
        return [None if taken is None else Cursor.unpack(taken) for taken in self._run(commands)]

    def _all(self) -> range:
        return range(self.shards)

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """See the port. One round trip for all writes."""
        return [bool(result) for result in self._run([self._write(write) for write in writes])]

    def _write(self, write: Write) -> Command:
        fence = b"" if write.before.next_offset < 0 else write.before.fence
        names = [self._cursors_key(write.shard, write.view), *self._entity_keys(write.shard, write.view, write.keys)]
        return write.shard, WRITE.call(names, [write.source.field, fence, write.after.pack(), *write.fields])

    def read(self, view: str, source: Source, keys: Sequence[bytes]) -> list[bytes | None]:
        """See the port."""
        shards = [shard_of(key, self.shards) for key in keys]
        prefixes = [self._entity_prefix(shard, view) for shard in self._all()]
        placed = zip(shards, keys, strict=True)
        return self._run([(shard, ("HGET", prefixes[shard] + key, source.field)) for shard, key in placed])

    def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[Answer]:
        """See the port. While it reads, about 2 us a key, the node answers nobody else."""
        commands, answers = self.asked(wanted)
        return answers(self._run(commands))

    def asked(
        self, wanted: Sequence[tuple[str, Sequence[bytes]]]
    ) -> tuple[Sequence[Command], Callable[[Sequence[Any]], list[Answer]]]:
        """The commands of a look-up, and what makes the answers of their replies: for who sends them otherwise."""
        places = [self._places(keys) for _, keys in wanted]
        names: dict[int, list[bytes]] = defaultdict(list)
        for (view, keys), place in zip(wanted, places, strict=True):
            self._name(view, keys, place, names)

        def answers(found: Sequence[Any]) -> list[Answer]:
            replies = {shard: _Reply(reply) for shard, reply in zip(names, found, strict=True)}
            return [_answer(place, replies) for place in places]

        return [(shard, LOOK_UP.call(own)) for shard, own in names.items()], answers

    def _places(self, keys: Sequence[bytes]) -> _Places:
        """The shard of each key, and each shard once; shard 0 if there is none."""
        if self.shards == 1:
            return [0] * len(keys), (0,)
        shards = [shard_of(key, self.shards) for key in keys]
        return shards, tuple(dict.fromkeys(shards)) or (0,)

    def _name(self, view: str, keys: Sequence[bytes], places: _Places, names: dict[int, list[bytes]]) -> None:
        """Append what is to be read of a view to what is read of each shard: its cursors, then its keys."""
        shards, distinct = places
        for shard in distinct:
            names[shard].append(self._cursors_key(shard, view))
        if len(distinct) == 1:
            names[distinct[0]] += self._entity_keys(distinct[0], view, keys)
            return
        prefixes = {shard: self._entity_prefix(shard, view) for shard in distinct}
        for shard, key in zip(shards, keys, strict=True):
            names[shard].append(prefixes[shard] + key)

    def cursors(self, views: Sequence[str]) -> list[Mapping[Source, Cursor]]:
        """See the port."""
        names = [[self._cursors_key(shard, view) for view in views] for shard in self._all()]
        found = self._run([(shard, LOOK_UP.call(own)) for shard, own in enumerate(names)]) if views else []
        by_shard = [[Moment(0, reply).cursors for reply in replies] for _, *replies in found]
        return [merged(of_view) for of_view in zip(*by_shard, strict=True)]

    def scavenge(self, reach_us: Mapping[str, int], position: int) -> tuple[int, int]:
        """See the port. A step looks at about a thousand keys."""
        position, by_place = self._scan(position)
        commands = [
            (shard, SCAVENGE.call([self._cursors_key(shard, view), *keys], [reach_us[view]]))
            for (shard, view), keys in by_place.items()
            if view in reach_us
        ]
        return position, sum(self._run(commands))

    def _scan(self, position: int) -> tuple[int, Mapping[tuple[int, str], Sequence[bytes]]]:
        """About a thousand keys on: those with fields, by shard and view."""
        position, keys = self._call(lambda: self._link.scan(position, self._fields, _SCAN_COUNT))
        by_place: dict[tuple[int, str], list[bytes]] = defaultdict(list)
        for key in keys:
            shard = int(key[4 : key.index(b"}")])
            if shard < self.shards and key.startswith(self._prefixes[shard]):
                view, _, _ = key.removeprefix(self._prefixes[shard]).partition(b":")
                by_place[shard, view.decode()].append(key)
        return position, by_place

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """See the port."""
        self._run([(0, ("SET", self._document_key(name), msgspec.json.encode(document)))])

    def get_document(self, name: str) -> dict[str, Any] | None:
        """See the port."""
        (data,) = self._run([(0, self.document(name))])
        return None if data is None else msgspec.json.decode(data)

    def document(self, name: str) -> Sequence[Any]:
        """The words of the command that gets a document's JSON."""
        return ("GET", self._document_key(name))

    def remove_documents(self, names: Sequence[str]) -> None:
        """See the port."""
        if names:
            self._run([(0, ("UNLINK", *map(self._document_key, names)))])

    def _document_key(self, name: str) -> bytes:
        return self._prefixes[0] + b"doc:" + name.encode()

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:
        """See the port. A step looks at about a thousand keys."""
        commands: list[Command] = []
        if position == 0 and views:
            commands = [(n, ("UNLINK", *(self._cursors_key(n, view) for view in views))) for n in self._all()]
        removed = sum(self._run(commands))
        position, by_place = self._scan(position)
        commands = [
            (shard, DROP.call([self._cursors_key(shard, view), *keys]))
            for (shard, view), keys in by_place.items()
            if view in views
        ]
        return position, removed + sum(self._run(commands))

    @property
    def _redis(self) -> Any:
        return self._link.redis

    def close(self) -> None:
        """Give the connections back."""
        self._link.close()

    def _cursors_key(self, shard: int, view: str) -> bytes:
        return self._prefixes[shard] + view.encode() + b":cursors"

    def _entity_prefix(self, shard: int, view: str) -> bytes:
        return self._prefixes[shard] + view.encode() + b":e:"

    def _entity_keys(self, shard: int, view: str, keys: Iterable[bytes]) -> list[bytes]:
        prefix = self._entity_prefix(shard, view)
        return [prefix + key for key in keys]

    def _run(self, commands: Sequence[Command]) -> list[Any]:
        return self._call(lambda: self._link.run(commands)) if commands else []

    def _call(self, action: Callable[[], T]) -> T:
        with self.telling():
            return action()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Of errors of redis-py that end by themselves make OnlineStoreUnavailableError, in this context."""
        try:
            yield
        except self._errors as error:
            message = f"the online store at {self._url} does not answer: {error}"
            raise OnlineStoreUnavailableError(message) from error
        except self._refusal as error:
            if not str(error).startswith(_FOR_NOW):
                raise
            message = f"the online store at {self._url} takes nothing for now: {error}"
            raise OnlineStoreUnavailableError(message) from error


class _Reply:
    """What one shard was read as: its time, then hash after hash, as they were asked for."""

    def __init__(self, reply: Sequence[Any]) -> None:
        seconds, micros = reply[0]
        self._now_us = int(seconds) * 1_000_000 + int(micros)
        self.hashes: Iterator[Sequence[bytes]] = islice(reply, 1, None)

    def moment(self) -> Moment:
        """Of the view that comes next."""
        return Moment(self._now_us, next(self.hashes))


def _answer(places: _Places, replies: Mapping[int, _Reply]) -> Answer:
    """The next view's."""
    shards, distinct = places
    moments = {shard: replies[shard].moment() for shard in distinct}
    if len(distinct) == 1:
        fields = list(islice(replies[distinct[0]].hashes, len(shards)))
    else:
        fields = [next(replies[shard].hashes) for shard in shards]
    return Answer(moments, shards, fields)


def _link_to(url: str, timeout_s: float) -> Link:
    """The link that a URL means: ``redis+cluster://`` and ``rediss+cluster://`` name any node of a cluster."""
    if of_node(url) == url:
        return NodeLink(url, timeout_s)
    from headrace.features.redis_cluster import ClusterLink  # noqa: PLC0415 - keeps `import headrace.serving` light

    return ClusterLink(url, timeout_s)
