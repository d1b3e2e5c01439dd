"""Tiles with sketches: records whose entries, of no fixed number, lie beside them.

A sketch that nobody fills costs nothing, and one of few values little: a dense one would cost its full width in every
tile of every entity. A record has a start and a count a sketch; its entries are ``entries[start : start + count]``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


class SketchedTiles(np.ndarray[Any, Any]):
    """Records with the entries of their sketches; parts of it, copied or not, share the entries."""

    entries: Sequence[np.ndarray]

    def __array_finalize__(self, origin: object) -> None:
        self.entries = getattr(origin, "entries", ())


def sketched(records: np.ndarray, entries: Sequence[np.ndarray]) -> SketchedTiles:
    """The records, whose starts count in ``entries``, one array a sketch."""
    tiles = records.view(SketchedTiles)
    tiles.entries = entries
    return tiles


def references(sketch: int) -> tuple[str, str]:
    """The names of the record's columns for a sketch: start and count."""
    return f"s{sketch}", f"n{sketch}"


def entries_of(tiles: np.ndarray, sketch: int) -> tuple[np.ndarray, np.ndarray]:
    """The entries of a sketch, tile after tile, and the number of each tile's."""
    if not isinstance(tiles, SketchedTiles):
        message = "tiles came without the entries of their sketches: join them with Kernel.join, not np.concatenate"
        raise TypeError(message)
    start, count = (np.asarray(tiles[name]) for name in references(sketch))
    return gather(tiles.entries[sketch], start, count), count


def gather(entries: np.ndarray, start: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The ranges ``entries[start : start + count]``, one after the other."""
    shift = np.repeat(start - (np.cumsum(count) - count), count)
    found: np.ndarray = entries.take(np.arange(len(shift)) + shift)
    return found


def join(parts: Sequence[np.ndarray]) -> SketchedTiles:
    """The tiles of all parts with their entries; what several parts share is not copied for each."""
    records = np.concatenate([np.asarray(part) for part in parts])
    of_parts = [_entries(part) for part in parts]
    own = {id(entries): entries for entries in of_parts}
    lengths = [len(part) for part in parts]
    joined = []
    for sketch in range(len(of_parts[0])):
        arrays = [entries[sketch] for entries in own.values()]
        begins = dict(zip(own, np.cumsum([0, *map(len, arrays)]).tolist(), strict=False))
        records[references(sketch)[0]] += np.repeat([begins[id(entries)] for entries in of_parts], lengths)
        joined.append(np.concatenate(arrays) if len(arrays) > 1 else arrays[0])
    return sketched(records, joined)


def spread(tiles: np.ndarray) -> int:
    """How many entries of all sketches the tile of an entry has on average; 1 for tiles that have none."""
    entries = sum((np.asarray(tiles[references(sketch)[1]]) for sketch in range(len(_entries(tiles)))), np.zeros(1))
    return max(1, round(float((entries**2).sum() / max(entries.sum(), 1))))


def _entries(part: np.ndarray) -> Sequence[np.ndarray]:
    return part.entries if isinstance(part, SketchedTiles) else ()
