"""The online store in Redis or Valkey. Keys and bytes are a public format: docs/reference/online-format.md.

Keys, with the hash tag of the shard (one shard on a single node)::

    hr:{0}:<namespace>:<view>@<version>:cursors            HASH  source partition → cursor
    hr:{0}:<namespace>:<view>@<version>:e:<entity key>     HASH  source partition → field
    hr:{0}:<namespace>:doc:<name>                          STRING  JSON
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from headrace.errors import OnlineStoreUnavailableError
from headrace.features.online import Answer, Cursor, Source, Write

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

T = TypeVar("T")

_ACQUIRE = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
if not stored then return false end
local taken = ARGV[2] .. string.sub(stored, 17, 44) .. ARGV[3] .. string.sub(stored, 49)
redis.call('HSET', KEYS[1], ARGV[1], taken)
return taken
"""
"""KEYS cursors; ARGV source, owner, partitions (u32)."""

_WRITE = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local found = stored and string.sub(stored, 1, 24) or ''
if found ~= ARGV[2] then
  return found == string.sub(ARGV[3], 1, 24) and 2 or 0
end
for i = 2, #KEYS do
  redis.call('HSET', KEYS[i], ARGV[1], ARGV[i + 2])
end
local time = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.sub(ARGV[3], 1, 48) .. struct.pack('<i8', time[1] * 1000000 + time[2]))
return 1
"""
"""KEYS cursors, entities…; ARGV source, fence wanted ('' for absent), cursor, fields…"""

_LOOK_UP = """
local found = {redis.call('TIME')}
for i = 1, #KEYS do found[i + 1] = redis.call('HGETALL', KEYS[i]) end
return found
"""
"""KEYS cursors and entities. A script: nothing comes between, and it costs less than a pipeline of the same reads."""

_SCAVENGE = """
local clock = nil
for _, cursor in ipairs(redis.call('HVALS', KEYS[1])) do
  local own = struct.unpack('<i8', cursor, 33)
  if not clock or own > clock then clock = own end
end
local removed = 0
if not clock then return removed end
local horizon = clock - tonumber(ARGV[1])
for i = 2, #KEYS do
  local fields = redis.call('HGETALL', KEYS[i])
  for f = 1, #fields, 2 do
    if struct.unpack('<i8', fields[f + 1], 25) <= horizon then
      removed = removed + redis.call('HDEL', KEYS[i], fields[f])
    end
  end
end
return removed
"""
"""KEYS cursors, entities…; ARGV reach in us."""
_DROP = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
local removed = 0
for i = 2, #KEYS do removed = removed + redis.call('UNLINK', KEYS[i]) end
return removed
"""
"""KEYS cursors, entities…"""
_SCAN_COUNT = 1_000


_FOR_NOW = ("MISCONF", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS")
"""Refusals that end by themselves or by an operator: a disk that is full, a cluster that elects."""


class RedisOnlineStore:
    """An :class:`~headrace.features.online.OnlineStore` over redis-py. Safe to share between threads."""

    def __init__(self, url: str, namespace: str = "headrace", *, timeout_s: float = 5.0) -> None:
        from redis import Redis, exceptions  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._errors = (
            exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError,
            exceptions.ReadOnlyError, exceptions.MasterDownError, exceptions.OutOfMemoryError,
        )  # fmt: skip
        self._refusal = exceptions.ResponseError
        # Any: redis-py's types tell neither replies from awaitables nor that keys may be bytes.
        self._redis: Any = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._url = re.sub(r"(?<=:)[^:@/]+(?=@)", "***", url)  # errors name it
        self._prefix = f"hr:{{0}}:{namespace}:".encode()
        self._acquire = self._redis.register_script(_ACQUIRE)
        self._write = self._redis.register_script(_WRITE)
        self._look_up = self._redis.register_script(_LOOK_UP)
        self._scavenge = self._redis.register_script(_SCAVENGE)
        self._drop = self._redis.register_script(_DROP)

    def acquire(self, view: str, source: Source, owner: bytes, partitions: int) -> Cursor | None:
        """See the port."""
        arguments = [source.field, owner, partitions.to_bytes(4, "little")]
        taken = self._call(lambda: self._acquire(keys=[self._cursors_key(view)], args=arguments))
        return None if taken is None else Cursor.unpack(taken)

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """See the port. One round trip for all writes."""
        return [bool(result) for result in self._call(lambda: self._send(writes))]

    def _send(self, writes: Sequence[Write]) -> list[int]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for write in writes:
                fence = b"" if write.before.next_offset < 0 else write.before.fence
                keys = [self._cursors_key(write.view), *self._entity_keys(write.view, write.keys)]
                self._write(keys, [write.source.field, fence, write.after.pack(), *write.fields], pipeline)
            results: list[int] = pipeline.execute()
        return results

    def read(self, view: str, source: Source, keys: Sequence[bytes]) -> list[bytes | None]:
        """See the port."""
        return self._call(lambda: self._read(self._entity_keys(view, keys), source.field))

    def _read(self, keys: Sequence[bytes], field: bytes) -> list[bytes | None]:
        with self._redis.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.hget(key, field)
            fields: list[bytes | None] = pipeline.execute()
        return fields

    def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> tuple[int, list[Answer]]:
        """See the port. While it reads, about 2 us a key, the store answers nobody else."""
        names = [name for view, keys in wanted for name in (self._cursors_key(view), *self._entity_keys(view, keys))]
        (seconds, micros), *replies = self._call(lambda: self._look_up(keys=names))
        answers, position = [], 0
        for _, keys in wanted:
            fields = replies[position + 1 : position + 1 + len(keys)]
            answers.append(Answer(_cursors(replies[position]), [_by_source(field) for field in fields]))
            position += 1 + len(keys)
        return int(seconds) * 1_000_000 + int(micros), answers

    def cursors(self, views: Sequence[str]) -> list[Mapping[Source, Cursor]]:
        """See the port."""
        return [answer.cursors for answer in self.look_up([(view, ()) for view in views])[1]]

    def scavenge(self, reach_us: Mapping[str, int], position: int) -> tuple[int, int]:
        """See the port. A step looks at about a thousand keys."""
        position, by_view = self._scan(position)
        return position, sum(self._clear(view, of, reach_us[view]) for view, of in by_view.items() if view in reach_us)

    def _scan(self, position: int) -> tuple[int, Mapping[str, Sequence[bytes]]]:
        """About a thousand keys on: those with fields, by view."""
        position, keys = self._call(
            lambda: self._redis.scan(position, match=self._prefix + b"*:e:*", count=_SCAN_COUNT)
        )
        by_view: dict[str, list[bytes]] = defaultdict(list)
        for key in keys:
            by_view[key.removeprefix(self._prefix).partition(b":")[0].decode()].append(key)
        return position, by_view

    def _clear(self, view: str, keys: Sequence[bytes], reach_us: int) -> int:
        removed: int = self._call(lambda: self._scavenge(keys=[self._cursors_key(view), *keys], args=[reach_us]))
        return removed

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """See the port."""
        self._call(lambda: self._redis.set(self._prefix + b"doc:" + name.encode(), msgspec.json.encode(document)))

    def get_document(self, name: str) -> dict[str, Any] | None:
        """See the port."""
        data = self._call(lambda: self._redis.get(self._prefix + b"doc:" + name.encode()))
        return None if data is None else msgspec.json.decode(data)

    def remove_documents(self, names: Sequence[str]) -> None:
        """See the port."""
        if names:
            self._call(lambda: self._redis.unlink(*(self._prefix + b"doc:" + name.encode() for name in names)))

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:
        """See the port. A step looks at about a thousand keys."""
        removed = 0
        if position == 0 and views:
            removed = self._call(lambda: self._redis.unlink(*map(self._cursors_key, views)))
        position, by_view = self._scan(position)
        return position, removed + sum(self._drop_keys(view, of) for view, of in by_view.items() if view in views)

    def _drop_keys(self, view: str, keys: Sequence[bytes]) -> int:
        removed: int = self._call(lambda: self._drop([self._cursors_key(view), *keys]))
        return removed

    def close(self) -> None:
        """Give the connections back."""
        self._redis.close()

    def _cursors_key(self, view: str) -> bytes:
        return self._prefix + view.encode() + b":cursors"

    def _entity_keys(self, view: str, keys: Sequence[bytes]) -> list[bytes]:
        prefix = self._prefix + view.encode() + b":e:"
        return [prefix + key for key in keys]

    def _call(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except self._errors as error:
            message = f"the online store at {self._url} does not answer: {error}"
            raise OnlineStoreUnavailableError(message) from error
        except self._refusal as error:
            if not str(error).startswith(_FOR_NOW):
                raise
            message = f"the online store at {self._url} takes nothing for now: {error}"
            raise OnlineStoreUnavailableError(message) from error


def _cursors(reply: Sequence[bytes]) -> dict[Source, Cursor]:
    return {source: Cursor.unpack(data) for source, data in _by_source(reply).items()}


def _by_source(reply: Sequence[bytes]) -> dict[Source, bytes]:
    """A hash as a script returns it: names and values in turn."""
    return {Source.from_field(name): data for name, data in zip(reply[::2], reply[1::2], strict=True)}
