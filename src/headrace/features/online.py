"""The online store: a port, and the words that its adapters share.

The store is a fenced materialisation of the event log. It holds one *field* per (view version, entity, source
partition). Entities are spread over its *shards*, and of each it holds one *cursor* per (view version, source
partition). A write is a compare-and-set on a cursor.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

_SOURCE = struct.Struct("<16sI")
_CURSOR = struct.Struct("<16sqqqBBHIq")
"""owner · next_offset · rows_total · clock · format · state · reserved · partitions · heartbeat"""
CURSOR_FORMAT = 1
_TOPIC_ID = 16
FENCE = 24
"""The first bytes of a cursor, owner and next_offset, are what a write compares."""
NO_CLOCK = -(2**62)
"""The clock of a partition that has no record yet."""


@dataclass(frozen=True, order=True)
class Source:
    """A partition of one incarnation of a topic: the name that survives nothing but itself."""

    partition: int
    topic_id: bytes

    @property
    def field(self) -> bytes:
        """Its name as a field in the online store: topic id, then partition."""
        return _SOURCE.pack(self.topic_id, self.partition)

    @property
    def text(self) -> str:
        """``<topic id as 32 hex digits>-<partition>``, as in Delta transactions and logged offsets."""
        return f"{self.topic_id.hex()}-{self.partition}"

    @staticmethod
    def from_field(field: bytes) -> Source:
        """Read a field name. Raises CodecError."""
        if len(field) != _SOURCE.size:
            message = f"{field!r} is no source partition: wanted {_SOURCE.size} bytes, topic id and partition"
            raise CodecError(message)
        topic_id, partition = _SOURCE.unpack(field)
        return Source(partition, topic_id)

    @staticmethod
    def from_text(text: str) -> Source:
        """Read :attr:`text`."""
        topic_id, _, partition = text.rpartition("-")
        return Source(int(partition), bytes.fromhex(topic_id))


class CursorState(IntEnum):
    """Whether what a cursor covers may be served."""

    LIVE = 0
    REBUILDING = 1


@dataclass(frozen=True)
class Cursor:
    """How far one view has folded one source partition, by whom."""

    owner: bytes
    next_offset: int
    rows_total: int = 0
    clock: int = NO_CLOCK
    state: CursorState = CursorState.LIVE
    partitions: int = 1
    heartbeat_us: int = 0

    @property
    def fence(self) -> bytes:
        """What the stored cursor must begin with for this owner's next write to be applied."""
        return self.pack()[:FENCE]

    def pack(self) -> bytes:
        """The cursor's bytes."""
        return _CURSOR.pack(
            self.owner, self.next_offset, self.rows_total, self.clock, CURSOR_FORMAT, self.state, 0, self.partitions,
            self.heartbeat_us,
        )  # fmt: skip

    @staticmethod
    def unpack(data: bytes) -> Cursor:
        """Read a cursor's bytes. Raises CodecError for another format."""
        if len(data) != _CURSOR.size or data[40] != CURSOR_FORMAT:
            message = f"a cursor of {len(data)} bytes is not of format {CURSOR_FORMAT} ({_CURSOR.size} bytes)"
            raise CodecError(message)
        owner, next_offset, rows_total, clock, _, state, _, partitions, heartbeat = _CURSOR.unpack(data)
        return Cursor(owner, next_offset, rows_total, clock, CursorState(state), partitions, heartbeat)

    def moved(self, next_offset: int, rows: int, clock: int, state: CursorState = CursorState.LIVE) -> Cursor:
        """The cursor after a batch that ends below ``next_offset``."""
        return replace(self, next_offset=next_offset, rows_total=self.rows_total + rows, clock=clock, state=state)


def present(cursors: Mapping[Source, Cursor]) -> list[Cursor]:
    """The cursors of the topic's present incarnation: the one with the newest sign of life."""
    if not cursors:
        return []
    newest = max(cursors.items(), key=lambda item: item[1].heartbeat_us)[0].topic_id
    return [cursor for source, cursor in cursors.items() if source.topic_id == newest]


def is_live(cursors: Mapping[Source, Cursor]) -> bool:
    """Whether every partition of the topic is there and has caught up."""
    current = present(cursors)
    is_whole = bool(current) and len(current) >= max(cursor.partitions for cursor in current)
    return is_whole and all(cursor.state is CursorState.LIVE for cursor in current)


def merged(shards: Sequence[Mapping[Source, Cursor]]) -> Mapping[Source, Cursor]:
    """What the cursors of all shards say together: the least position, the rows of all, live only if all are.

    One that a shard lacks is rebuilding, from 0.
    """
    if len(shards) == 1:
        return shards[0]
    sources = dict.fromkeys(source for cursors in shards for source in cursors)
    return {source: _together([cursors.get(source) for cursors in shards]) for source in sources}


def _together(cursors: Sequence[Cursor | None]) -> Cursor:
    there = [cursor for cursor in cursors if cursor is not None]
    is_whole = len(there) == len(cursors)
    least = min(there, key=lambda cursor: cursor.next_offset)
    return replace(
        least,
        next_offset=least.next_offset if is_whole else 0,
        rows_total=sum(cursor.rows_total for cursor in there),
        state=max(cursor.state for cursor in there) if is_whole else CursorState.REBUILDING,
        partitions=max(cursor.partitions for cursor in there),
        heartbeat_us=min(cursor.heartbeat_us for cursor in there),
    )


def shard_of(key: bytes, shards: int) -> int:
    """The shard that an entity is in: CRC-32 (zlib) of its key, modulo their number."""
    return zlib.crc32(key) % shards if shards > 1 else 0


@dataclass(frozen=True)
class Write:
    """A compare-and-set: from the cursor written last to the next one, with the fields that change with it.

    All keys are of the cursor's shard.
    """

    view: str
    source: Source
    before: Cursor
    after: Cursor
    keys: Sequence[bytes] = ()
    fields: Sequence[bytes] = ()
    shard: int = 0


class Signs(NamedTuple):
    """What the cursors of a view say of all its entities: the largest clock, :func:`is_live`, the oldest heartbeat.

    The heartbeat is of the present incarnation; without cursors it is 0.
    """

    clock: int
    is_live: bool
    heartbeat_us: int


@dataclass(frozen=True)
class Moment:
    """When one shard was read, by its own clock (us), and the cursors that it then had of a view.

    ``packed``: the names of the sources and their cursors' bytes, in turn.
    """

    now_us: int
    packed: Sequence[bytes]

    @cached_property
    def cursors(self) -> Mapping[Source, Cursor]:
        """The cursors by source. Raises CodecError."""
        return _cursors(self.packed)

    @cached_property
    def offsets(self) -> Mapping[str, int]:
        """The next offset of each source, by its text."""
        return {source.text: cursor.next_offset for source, cursor in self.cursors.items()}

    @cached_property
    def signs(self) -> Signs:
        """What they say together. Raises CodecError."""
        return _signs(tuple(self.packed))


@lru_cache(maxsize=1024)
def _signs(packed: tuple[bytes, ...]) -> Signs:
    """Remembered, as many look-ups find the same cursors between two batches of a worker."""
    names, cursors = packed[::2], packed[1::2]
    if len({name[:_TOPIC_ID] for name in names}) != 1 or any(len(data) != _CURSOR.size for data in cursors):
        return _signs_of(_cursors(packed))
    _, _, _, clocks, forms, states, _, partitions, heartbeats = zip(*map(_CURSOR.unpack, cursors), strict=True)
    if set(forms) != {CURSOR_FORMAT}:
        return _signs_of(_cursors(packed))
    return Signs(max(clocks), len(cursors) >= max(partitions) and not any(states), min(heartbeats))


def _signs_of(cursors: Mapping[Source, Cursor]) -> Signs:
    """The same of cursors of any incarnations."""
    clock = max((cursor.clock for cursor in cursors.values()), default=NO_CLOCK)
    return Signs(clock, is_live(cursors), min((cursor.heartbeat_us for cursor in present(cursors)), default=0))


def _cursors(packed: Sequence[bytes]) -> dict[Source, Cursor]:
    return {source: Cursor.unpack(data) for source, data in by_source(packed).items()}


def by_source(packed: Sequence[bytes]) -> dict[Source, bytes]:
    """What a hash of names of sources and bytes, in turn, has of each. Raises CodecError."""
    return {Source.from_field(name): data for name, data in zip(packed[::2], packed[1::2], strict=True)}


@lru_cache(maxsize=4096)
def text_of(name: bytes) -> str:
    """The text of the source that a field is named by. Raises CodecError."""
    return Source.from_field(name).text


@dataclass(frozen=True)
class Answer:
    """What one look-up read of one view: each key's shard and fields, and when each shard was read.

    ``packed``: of each key the names of the sources and their fields, in turn. A look-up without keys reads shard 0.
    """

    moments: Mapping[int, Moment]
    shards: Sequence[int]
    packed: Sequence[Sequence[bytes]]

    @property
    def clock(self) -> int:
        """The largest of all cursors."""
        return max([moment.signs.clock for moment in self.moments.values()])

    @cached_property
    def fields(self) -> Sequence[Mapping[Source, bytes]]:
        """The fields of each key by source. Raises CodecError."""
        return [by_source(of_key) for of_key in self.packed]


class OnlineStore(Protocol):
    """What the worker and the applications ask of an online store.

    ``view`` is always ``name@version``. All methods raise OnlineStoreUnavailableError when the store does not answer.
    """

    @property
    def shards(self) -> int:
        """How many parts the entities are spread over: see :func:`shard_of`."""
        ...

    def acquire(self, view: str, source: Source, owner: bytes, partitions: int) -> Sequence[Cursor | None]:
        """Take each shard's cursor over, whatever it holds; its position under the new owner, or None if there is none.

        Where there was none nothing is written: the owner's first write, with ``before.next_offset`` < 0, creates it.
        """
        ...

    def write(self, writes: Sequence[Write]) -> list[bool]:
        """Apply each write iff the stored cursor's fence is that of ``before``; also True if it was applied already.

        A write whose ``before.next_offset`` is negative asks that there be no cursor. Each write is atomic; when an
        error is raised some may be applied, and all may be sent again.
        """
        ...

    def read(self, view: str, source: Source, keys: Sequence[bytes]) -> list[bytes | None]:
        """The fields of one source partition, for a worker that does not have them in memory."""
        ...

    def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[Answer]:
        """An answer a view, in one round trip; what a shard says of all views is of one moment.

        So a cursor vouches for the fields beside it: a shard that is emptied is found full or empty, never half.
        """
        ...

    def look_up_with(
        self, document: str, wanted: Sequence[tuple[str, Sequence[bytes]]]
    ) -> tuple[dict[str, Any] | None, list[Answer]]:
        """A look-up and a document, as :meth:`get_document` has it, in one round trip; the document is the older."""
        ...

    def cursors(self, views: Sequence[str]) -> list[Mapping[Source, Cursor]]:
        """The cursors of each view, :func:`merged` over all shards."""
        ...

    def scavenge(self, reach_us: Mapping[str, int], position: int) -> tuple[int, int]:
        """One step of removing what no look-up can see; the next position (0: all was gone through), and how many.

        ``reach_us`` maps a view to its longest window and its history, together. A field goes iff its newest event is
        at least that far behind the largest clock of the view's cursors in its shard. Without a cursor nothing goes.
        """
        ...

    def put_document(self, name: str, document: Mapping[str, Any]) -> None:
        """Keep a JSON document: a spec under ``view:<name@version>``, a service under ``service:<name@version>``."""
        ...

    def get_document(self, name: str) -> dict[str, Any] | None:
        """The JSON document of that name, or None."""
        ...

    def remove_documents(self, names: Sequence[str]) -> None:
        """Forget these documents, where they are there."""
        ...

    def drop(self, views: Collection[str], position: int) -> tuple[int, int]:
        """One step of removing everything of some views; the next position (0: a round is complete), and how many keys.

        Cursors go as a round begins, at position 0. Fields go only where the view has no cursor in their shard: who
        folds it again has written one before.
        """
        ...
