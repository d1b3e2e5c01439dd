"""The bytes of one online field: one (view version, entity, source partition). Format 1, little-endian.

::

    u8 format = 1 · u8 flags = 0 · u16 n tile sizes · u32 reserved = 0
    i64 next_offset   every accepted row below it is folded in
    i64 clock         the partition clock (us) that the tiles were pruned by
    i64 newest        the largest event time (us) of a row of this entity
    u32 count[n]      tiles of each size, padded to a multiple of 8 bytes
    tiles             each: i64 k, then the physical columns of the view (8 bytes each); smallest size first,
                      k ascending
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT = 1
_HEADER = struct.Struct("<BBHIqqq")


@dataclass(frozen=True)
class Header:
    """What a field says of itself."""

    next_offset: int
    clock: int
    newest: int


def _counts(sizes: int) -> struct.Struct:
    return struct.Struct(f"<{sizes}I{'4x' if sizes % 2 else ''}")


def pack(header: Header, counts: Sequence[int], tiles: bytes) -> bytes:
    """The bytes of a field; ``tiles`` are those of all sizes, one after the other."""
    front = _HEADER.pack(FORMAT, 0, len(counts), 0, header.next_offset, header.clock, header.newest)
    return front + _counts(len(counts)).pack(*counts) + tiles


def unpack(data: bytes, dtype: np.dtype, sizes: int) -> tuple[Header, list[np.ndarray]]:
    """The header of a field and its tiles by size. Raises CodecError for bytes of another format or length."""
    if len(data) < _HEADER.size or data[0] != FORMAT:
        message = f"an online field begins with {data[:1]!r} ({len(data)} bytes): this version reads format {FORMAT}"
        raise CodecError(message)
    _, _, found, _, next_offset, clock, newest = _HEADER.unpack_from(data)
    counts = _counts(sizes)
    position = _HEADER.size + counts.size
    if found != sizes or len(data) < position:
        message = f"an online field has {found} tile sizes, the view's spec {sizes}: it belongs to another version"
        raise CodecError(message)
    numbers = counts.unpack_from(data, _HEADER.size)
    if len(data) != position + sum(numbers) * dtype.itemsize:
        message = f"an online field of {len(data)} bytes does not hold {sum(numbers)} tiles of {dtype.itemsize} bytes"
        raise CodecError(message)
    tiles = np.frombuffer(data, dtype, sum(numbers), position)
    return Header(next_offset, clock, newest), np.split(tiles, np.cumsum(numbers)[:-1])
