"""The bytes of one online field: one (view version, entity, source partition). Formats 1 to 5, little-endian.

::

    u8 format · u8 flags = 0 · u16 n tile sizes · u32 reserved = 0
    i64 next_offset   every accepted row below it is folded in
    i64 clock         the partition clock (us) that the tiles were pruned by
    i64 newest        the largest event time (us) of a row of this entity
    u32 count[n]      tiles of each size, padded to a multiple of 8 bytes
    tiles             smallest size first, k ascending; each: i64 k, then the view's physical columns (8 bytes each)

A view with sketches has format 2. A tile then ends with u32 entries[sketches], the numbers of its entries. The tiles of
each size are followed by the entries of the first sketch, tile after tile, then by those of the next sketch. Format 3
is the same for a view with texts, which are entries too, and format 4 for a view with vectors. Format 5 is that of a
view with a window of the newest rows: its smallest tile size is 1 us, of which a tile is a row, and k its event time.
Rows of one time are in the order of their offsets. Everything else is as without that size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from headrace.errors import CodecError
from headrace.features.kernel.sketched_tiles import entries_of, references, sketched
from headrace.features.kernel.text_sketch import TEXT_ENTRY
from headrace.features.kernel.vector_sketch import NUMBERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HEADER = struct.Struct("<BBHIqqq")
_FRONT = [("form", "u1"), ("flags", "u1"), ("sizes", "<u2"), ("reserved", "<u4"),
          ("next_offset", "<i8"), ("clock", "<i8"), ("newest", "<i8")]  # fmt: skip
HeaderArrays = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The headers of many fields: their next offsets, clocks and newest event times."""


@dataclass(frozen=True)
class FieldLayout:
    """The layout of a view's fields: the dtype of a tile in memory, the number of tile sizes, the dtypes of entries.

    ``has_rows``: the tiles of the smallest size are rows.
    """

    tile: np.dtype
    sizes: int
    entries: tuple[np.dtype, ...] = ()
    has_rows: bool = False

    @property
    def form(self) -> int:
        """The format number that a field begins with."""
        if self.has_rows:
            return 5
        if any(NUMBERS in (entry.names or ()) for entry in self.entries):
            return 4
        if TEXT_ENTRY in self.entries:
            return 3
        return 2 if self.entries else 1

    @cached_property
    def front_bytes(self) -> int:
        """The number of bytes before the tiles."""
        return _HEADER.size + _counts(self.sizes).size

    @cached_property
    def stored(self) -> np.dtype:
        """The dtype of a tile in bytes. In memory its numbers of entries are wider, and starts stand before them."""
        numbers = [references(sketch)[1] for sketch in range(len(self.entries))]
        columns = [(name, "<i8" if kind == np.int64 else "<f8") for name, kind in self._plain]
        return np.dtype([*columns, *((name, "<u4") for name in numbers)])

    @property
    def _plain(self) -> list[tuple[str, np.dtype]]:
        dropped = {name for sketch in range(len(self.entries)) for name in references(sketch)}
        return [(name, self.tile[name]) for name in self.tile.names or () if name not in dropped]

    def split(self, tiles: np.ndarray, counts: np.ndarray) -> list[Sequence[bytes]]:
        """Return the bytes of the tiles of one size, then of each sketch's entries, in parts of ``counts`` tiles."""
        if not self.entries:
            return [_split(tiles, counts)]
        records = np.empty(len(tiles), self.stored)
        for name in self.stored.names or ():
            records[name] = tiles[name]
        pieces = [_split(records, counts)]
        ends = np.cumsum(counts)
        for sketch in range(len(self.entries)):
            entries, numbers = entries_of(tiles, sketch)
            below = np.append([0], np.cumsum(numbers))
            pieces.append(_split(entries, below[ends] - below[ends - counts]))
        return pieces

    def tiles(self, data: bytes, counts: Sequence[int], position: int) -> Iterator[np.ndarray]:
        """Yield the tiles of each size from ``position`` on. Raises CodecError for more or fewer bytes."""
        try:
            for count in counts:
                records = np.frombuffer(data, self.stored, count, position)
                position += records.nbytes
                if self.entries:
                    records, position = self._with_entries(records, data, position)
                yield records
        except ValueError:  # too few
            position = -1
        if position != len(data):
            message = f"an online field of {len(data)} bytes does not hold {sum(counts)} tiles and their entries"
            raise CodecError(message)

    def _with_entries(self, stored: np.ndarray, data: bytes, position: int) -> tuple[np.ndarray, int]:
        records = np.zeros(len(stored), self.tile)
        for name in self.stored.names or ():
            records[name] = stored[name]
        entries = []
        for sketch, dtype in enumerate(self.entries):
            start, number = references(sketch)
            ends = np.cumsum(records[number])
            records[start] = ends - records[number]
            entries.append(np.frombuffer(data, dtype, int(records[number].sum()), position))
            position += entries[-1].nbytes
        return sketched(records, entries), position


def _split(items: np.ndarray, counts: np.ndarray) -> Sequence[bytes]:
    flat = items.tobytes()
    ends = (np.cumsum(counts) * items.dtype.itemsize).tolist()
    return [flat[start:end] for start, end in zip([0, *ends], ends, strict=False)]


@dataclass(frozen=True)
class FieldHeader:
    """The header of a field."""

    next_offset: int
    clock: int
    newest: int


def newest(data: bytes) -> int:
    """Return the largest event time (us) of a field from its header. The rest is not read."""
    at: int = _HEADER.unpack_from(data)[-1]
    return at


def next_offset(data: bytes) -> int:
    """Return the next offset of a field from its header. The rest is not read."""
    at: int = _HEADER.unpack_from(data)[4]
    return at


def _counts(sizes: int) -> struct.Struct:
    return struct.Struct(f"<{sizes}I{'4x' if sizes % 2 else ''}")


def fronts(headers: HeaderArrays, counts: np.ndarray, form: int = 1) -> list[bytes]:
    """Return the first bytes of each of many fields. ``counts`` has one row for each; ``form`` is the layout's."""
    sizes = counts.shape[1]
    records = np.zeros(len(counts), [*_FRONT, ("counts", "<u4", (sizes + sizes % 2,))])
    records["form"], records["sizes"] = form, sizes
    records["next_offset"], records["clock"], records["newest"] = headers
    records["counts"][:, :sizes] = counts
    flat, width = records.tobytes(), records.dtype.itemsize
    return [flat[start : start + width] for start in range(0, len(flat), width)]


def unpack(data: bytes, layout: FieldLayout) -> tuple[FieldHeader, list[np.ndarray]]:
    """Return the header of a field and its tiles by size. Raises CodecError for another format or length."""
    if len(data) < _HEADER.size or data[0] != layout.form:
        message = f"an online field begins with {data[:1]!r} ({len(data)} bytes): the view's format is {layout.form}"
        raise CodecError(message)
    _, _, found, _, next_offset, clock, newest = _HEADER.unpack_from(data)
    counts = _counts(layout.sizes)
    position = _HEADER.size + counts.size
    if found != layout.sizes or len(data) < position:
        message = f"an online field has {found} tile sizes, the view's spec {layout.sizes}: it is of another version"
        raise CodecError(message)
    numbers = counts.unpack_from(data, _HEADER.size)
    return FieldHeader(next_offset, clock, newest), list(layout.tiles(data, numbers, position))
