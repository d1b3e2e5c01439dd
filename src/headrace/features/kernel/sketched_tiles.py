"""Tiles with sketches: records, and next to them their entries, whose number is not fixed.

An empty sketch costs nothing, and a sketch of few values costs little. A dense one would cost its full width in every
tile of every entity. A record has a start and a count a sketch; its entries are ``entries[start : start + count]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class SketchedTiles(np.ndarray[Any, Any]):
    """Records with the entries of their sketches. A part of the array shares the entries, whether copied or not."""

    entries: Sequence[np.ndarray]

    def __array_finalize__(self, origin: object) -> None:
        self.entries = getattr(origin, "entries", ())


def sketched(records: np.ndarray, entries: Sequence[np.ndarray]) -> SketchedTiles:
    """Return the records as tiles. Their starts count in ``entries``, which has one array for each sketch."""
    tiles = records.view(SketchedTiles)
    tiles.entries = entries
    return tiles


def references(sketch: int) -> tuple[str, str]:
    """Return the names of the record's two columns for a sketch: start and count."""
    return f"s{sketch}", f"n{sketch}"


def entries_of(tiles: np.ndarray, sketch: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the entries of a sketch, tile after tile, and the number of entries of each tile."""
    if not isinstance(tiles, SketchedTiles):
        message = "tiles came without the entries of their sketches: join them with Kernel.join, not np.concatenate"
        raise TypeError(message)
    start, count = (np.asarray(tiles[name]) for name in references(sketch))
    return gather(tiles.entries[sketch], start, count), count


def gather(entries: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """Return the ranges ``entries[start : start + count]``, one after the other."""
    shift = np.repeat(start - (np.cumsum(count) - count), count)
    found: np.ndarray = entries.take(np.arange(len(shift)) + shift)
    return found


def with_own_entries(tiles: np.ndarray) -> SketchedTiles:
    """Return the tiles with copies of their entries alone, and not with all that they shared with others."""
    records = np.array(tiles)
    own = []
    for sketch in range(len(_entries(tiles))):
        entries, count = entries_of(tiles, sketch)
        records[references(sketch)[0]] = np.cumsum(count) - count
        own.append(entries)
    return sketched(records, own)


def join(parts: Sequence[np.ndarray]) -> SketchedTiles:
    """Return the tiles of all parts with their entries. Entries that several parts share are copied once."""
    records = _concatenated([np.asarray(part) for part in parts])
    of_parts = [_entries(part) for part in parts]
    own = {id(entries): entries for entries in of_parts}
    lengths = [len(part) for part in parts]
    joined = []
    for sketch in range(len(of_parts[0])):
        arrays = [entries[sketch] for entries in own.values()]
        begins = dict(zip(own, np.cumsum([0, *map(len, arrays)]).tolist(), strict=False))
        records[references(sketch)[0]] += np.repeat([begins[id(entries)] for entries in of_parts], lengths)
        joined.append(_concatenated(arrays) if len(arrays) > 1 else arrays[0])
    return sketched(records, joined)


def _concatenated(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays of one dtype. Records are joined as bytes: numpy would compare their fields array by array."""
    dtype = arrays[0].dtype
    if dtype.names is None:
        return np.concatenate(arrays)
    whole: np.ndarray = np.concatenate([array.view((np.void, dtype.itemsize)) for array in arrays])
    return whole.view(dtype)


def spread(tiles: np.ndarray) -> int:
    """Return the average number of entries in the tile of an entry, over all sketches; 1 for tiles without entries."""
    entries = sum((np.asarray(tiles[references(sketch)[1]]) for sketch in range(len(_entries(tiles)))), np.zeros(1))
    return max(1, round(float((entries**2).sum() / max(entries.sum(), 1))))


def _entries(part: np.ndarray) -> Sequence[np.ndarray]:
    return part.entries if isinstance(part, SketchedTiles) else ()
