"""Cursors: the position of one view in one source partition, and the summary of a view's cursors."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
from headrace.bus.source_partition import NO_CLOCK, TOPIC_ID_BYTES, SourcePartition, by_source

_CURSOR = struct.Struct("<16sqqqBBHIq")
"""owner · next_offset · rows_total · clock · format · state · reserved · partitions · heartbeat"""


CURSOR_FORMAT = 1


FENCE = 24
"""The length of owner and next_offset, the first fields of a cursor: a write compares them."""


class CursorState(IntEnum):
    """The state of a cursor: LIVE if the fields that it covers are complete, REBUILDING if events may be missing."""

    LIVE = 0
    REBUILDING = 1


@dataclass(frozen=True)
class Cursor:
    """The position of one view in one source partition, with the owner that wrote it."""

    owner: bytes
    next_offset: int
    rows_total: int = 0
    clock: int = NO_CLOCK
    state: CursorState = CursorState.LIVE
    partitions: int = 1
    heartbeat_us: int = 0

    @property
    def fence(self) -> bytes:
        """The first bytes of the stored cursor that this owner's next write expects."""
        return self.pack()[:FENCE]

    def pack(self) -> bytes:
        """Return the cursor's bytes."""
        return _CURSOR.pack(
            self.owner, self.next_offset, self.rows_total, self.clock, CURSOR_FORMAT, self.state, 0, self.partitions,
            self.heartbeat_us,
        )  # fmt: skip

    @staticmethod
    def unpack(data: bytes) -> Cursor:
        """Return the cursor in these bytes. Raises CodecError for another format."""
        if len(data) != _CURSOR.size or data[40] != CURSOR_FORMAT:
            message = f"a cursor of {len(data)} bytes is not of format {CURSOR_FORMAT} ({_CURSOR.size} bytes)"
            raise CodecError(message)
        owner, next_offset, rows_total, clock, _, state, _, partitions, heartbeat = _CURSOR.unpack(data)
        return Cursor(owner, next_offset, rows_total, clock, CursorState(state), partitions, heartbeat)

    def moved(self, next_offset: int, rows: int, clock: int, state: CursorState = CursorState.LIVE) -> Cursor:
        """Return the cursor after a batch that ends below ``next_offset``."""
        return replace(self, next_offset=next_offset, rows_total=self.rows_total + rows, clock=clock, state=state)


def present(cursors: Mapping[SourcePartition, Cursor], topics: int = 1) -> list[Cursor]:
    """Return the cursors of the present incarnations of a view's topics: those with the newest heartbeats.

    Imports are none.
    """
    return [cursor for of_topic in _of_topics(cursors, topics) for cursor in of_topic]


def _of_topics(cursors: Mapping[SourcePartition, Cursor], topics: int) -> list[list[Cursor]]:
    """Return the cursors of that many incarnations, one list for each; fewer if there are fewer."""
    found: dict[bytes, list[Cursor]] = {}
    for source, cursor in cursors.items():
        if not source.is_import:
            found.setdefault(source.topic_id, []).append(cursor)
    newest = sorted(found.values(), key=lambda own: max(cursor.heartbeat_us for cursor in own), reverse=True)
    return newest[:topics]


def imported(cursors: Mapping[SourcePartition, Cursor]) -> list[Cursor]:
    """Return the cursors of imports."""
    return [cursor for source, cursor in cursors.items() if source.is_import]


def is_live(cursors: Mapping[SourcePartition, Cursor], topics: int = 1) -> bool:
    """Return whether all partitions of the view's topics have a cursor, and they and all imports have caught up."""
    current = _of_topics(cursors, topics)
    is_whole = all(len(own) >= max(cursor.partitions for cursor in own) for own in current)
    all_of = [*(cursor for own in current for cursor in own), *imported(cursors)]
    return len(current) == topics and is_whole and all(cursor.state is CursorState.LIVE for cursor in all_of)


def merge_cursors(shards: Sequence[Mapping[SourcePartition, Cursor]]) -> Mapping[SourcePartition, Cursor]:
    """Merge the cursors of all shards: the smallest position, the sum of rows, live only if all are live.

    If a shard lacks a cursor, the merged cursor is rebuilding, from 0.
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


class CursorSummary(NamedTuple):
    """The summary of a view's cursors: the largest clock, :func:`is_live`, and the oldest heartbeat.

    The heartbeat is that of the topic's present incarnation, 0 without cursors.
    """

    clock: int
    is_live: bool
    heartbeat_us: int


@lru_cache(maxsize=1024)
def summarized(packed: tuple[bytes, ...]) -> CursorSummary:
    """Return the summary of packed cursors. It is cached: between two batches many look-ups find the same cursors."""
    names, cursors = packed[::2], packed[1::2]
    if len({name[:TOPIC_ID_BYTES] for name in names}) != 1 or any(len(data) != _CURSOR.size for data in cursors):
        return _summary_of(decoded_cursors(packed))
    _, _, _, clocks, forms, states, _, partitions, heartbeats = zip(*map(_CURSOR.unpack, cursors), strict=True)
    if set(forms) != {CURSOR_FORMAT}:
        return _summary_of(decoded_cursors(packed))
    return CursorSummary(max(clocks), len(cursors) >= max(partitions) and not any(states), min(heartbeats))


@lru_cache(maxsize=1024)
def summarized_together(packed: tuple[bytes, ...], topics: int) -> CursorSummary:
    """Return the summary of packed cursors of a view with several topics."""
    return _summary_of(decoded_cursors(packed), topics)


def _summary_of(cursors: Mapping[SourcePartition, Cursor], topics: int = 1) -> CursorSummary:
    """Return the summary of cursors of any incarnations."""
    clock = max((cursor.clock for cursor in cursors.values()), default=NO_CLOCK)
    heartbeat_us = min((cursor.heartbeat_us for cursor in present(cursors, topics)), default=0)
    return CursorSummary(clock, is_live(cursors, topics), heartbeat_us)


def decoded_cursors(packed: Sequence[bytes]) -> dict[SourcePartition, Cursor]:
    """Return packed cursors by source partition."""
    return {source: Cursor.unpack(data) for source, data in by_source(packed).items()}
