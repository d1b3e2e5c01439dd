"""Texts in tiles: the first text, the last one, or the newest ones. A text has as many entries as it needs.

::

    'grocery'                      ──> one entry:   time · offset · 7 bytes, part 0  · 'grocery'
    'a text of some more than 20…' ──> two entries: time · offset · 33 bytes, part 0 · 'a text of some more '
                                                    time · offset · 33 bytes, part 1 · 'than 20…'

The entries of a text stay together, in the order of their parts. A text of more than MOST_TEXT bytes counts as its
beginning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from headrace.features.kernel.states import Values

MOST_TEXT = 256
"""The bytes of UTF-8 that a text in a tile may have. A longer one is cut to as many whole characters as fit."""
TEXT_ENTRY = np.dtype([("time", "<i8"), ("offset", "<i8"), ("size", "<u2"), ("part", "<u2"), ("bytes", "u1", 20)])
"""A part of a text. ``size`` is the number of bytes of the whole text, or NO_TEXT for a row without a text."""
NO_TEXT = 2**16 - 1
_PART = 20
_LONGEST_CHARACTER = 4
_CONTINUES, _HIGH_BITS = 0x80, 0xC0


@dataclass(frozen=True)
class Utf8:
    """Texts as bytes of UTF-8, one after the other. Text i is ``data[ends[i] : ends[i + 1]]``."""

    data: np.ndarray
    ends: np.ndarray

    def of_width(self, most: int) -> np.ndarray:
        """Return each text as ``most`` bytes, cut or filled up with zeros."""
        begin, size = self.cut(most)
        found = np.zeros((len(size), most), np.uint8)
        place = np.arange(most)
        inside = place < size[:, None]
        found[inside] = self.data[(begin[:, None] + place)[inside]]
        return found.view(f"S{most}").reshape(-1)

    def cut(self, most: int = MOST_TEXT) -> tuple[np.ndarray, np.ndarray]:
        """Return where each text begins, and how many of its bytes count."""
        begin, end = self.ends[:-1], self.ends[1:]
        size = end - begin
        long = np.flatnonzero(size > most)
        size[long] = most
        for _ in range(_LONGEST_CHARACTER - 1 if len(long) else 0):
            inside = self.data[begin[long] + size[long]] & _HIGH_BITS == _CONTINUES
            size[long] -= inside
        return begin, size


@dataclass(frozen=True)
class TextSketch:
    """The n texts with the latest (event time, partition, offset), or the earliest ones.

    ``keeps_rows``: a row without a text counts too, and takes the text of an earlier row back.
    """

    n: int = 1
    earliest: bool = False
    keeps_rows: bool = False

    @property
    def dtype(self) -> np.dtype:
        """Forty bytes: the place of the row, and twenty bytes of its text."""
        return TEXT_ENTRY

    def lift_texts(
        self, texts: Utf8, there: np.ndarray, time_us: np.ndarray, offset: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of entries of each row, and the entries row by row. ``there``: the row has a text."""
        begin, size = texts.cut()
        size = np.where(there, size, 0)
        number = np.maximum(-(-size // _PART), 1)
        if not self.keeps_rows:
            number[~there] = 0
        row = np.repeat(np.arange(len(number)), number)
        part = np.arange(len(row)) - (np.cumsum(number) - number)[row]
        entries = np.zeros(len(row), TEXT_ENTRY)
        entries["time"], entries["offset"], entries["part"] = time_us[row], offset[row], part
        entries["size"] = np.where(there, size, NO_TEXT)[row]
        place = _PART * part[:, None] + np.arange(_PART)
        inside = place < size[row][:, None]
        entries["bytes"][inside] = texts.data[(begin[row][:, None] + place)[inside]]
        return number, entries

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Raise TypeError: a text has entries of its own number, which :meth:`lift_texts` makes."""
        message = f"{len(values)} texts at {len(time_us)} times and {len(offset)} offsets are lifted with lift_texts"
        raise TypeError(message)

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The n texts of each owner, oldest first."""
        if not len(entries):
            return entries, owner
        if self.n == 1:
            kept = self._at_the_end(entries["time"], owner)
            entries, owner, rank = entries[kept], owner[kept], rank[kept]
        order = np.lexsort((entries["offset"], rank, entries["time"], owner))  # stable: parts keep their order
        entries, owner = entries.take(order), owner[order]
        text, first, count = _texts(entries, owner)
        place = np.arange(len(first)) - np.repeat(np.cumsum(count) - count, count)
        kept = place < self.n if self.earliest else place >= np.repeat(count, count) - self.n
        chosen = kept[text]
        return entries[chosen], owner[chosen]

    def _at_the_end(self, time: np.ndarray, owner: np.ndarray) -> np.ndarray:
        """True for the entries at the last, or the first, time of their owner: mostly one text is left to sort."""
        changed = np.append([True], owner[1:] != owner[:-1])
        ends = (np.minimum if self.earliest else np.maximum).reduceat(time, np.flatnonzero(changed))
        at_end: np.ndarray = time == ends[np.cumsum(changed) - 1]
        return at_end

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """The newest text (item 0), the one before it (item 1), and so on."""
        flat, texts = self.newest(entries, count)
        has = texts > item
        values = np.full(len(count), None, object)
        values[has] = flat[(np.cumsum(texts) - texts + item)[has]]
        return values, np.fromiter((value is not None for value in values), bool, len(values))

    def newest(self, entries: np.ndarray, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """All texts, owner after owner, the newest first, and how many each owner has. NO_TEXT is None."""
        texts = np.zeros(len(count), np.int64)
        if not len(entries):
            return np.zeros(0, object), texts
        owner = np.repeat(np.arange(len(count)), count)
        _, first, number = _texts(entries, owner)
        texts[np.unique(owner)] = number
        ends = np.cumsum(number)
        place = np.arange(len(first)) - np.repeat(ends - number, number)
        first = first[np.repeat(ends, number) - 1 - place]
        size, data = entries["size"][first].tolist(), entries["bytes"].tobytes()
        begins = zip((first * _PART).tolist(), size, strict=True)
        found = (None if length == NO_TEXT else data[begin : begin + length].decode() for begin, length in begins)
        return np.fromiter(found, object, len(first)), texts


def _texts(entries: np.ndarray, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the number of each entry's text, the first entry of each text, and how many texts each owner has.

    Owners that have none are left out.
    """
    begins = entries["part"] == 0
    first = np.flatnonzero(begins)
    owners = owner[first]
    starts = np.flatnonzero(np.append([True], owners[1:] != owners[:-1]))
    return np.cumsum(begins) - 1, first, np.diff(np.append(starts, len(owners)))
