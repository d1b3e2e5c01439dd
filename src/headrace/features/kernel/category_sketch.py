"""Counts of categories that are not named beforehand: exact for as many as the capacity, the rest together.

::

    'grocery' ──> one entry:  hash · count · 'grocery'          beyond the capacity ──> hash 0 · -count

The categories with the smallest hashes are kept. Whether a category is kept does not depend on when or how often it
comes, so a category that is kept in a window was kept in each of its tiles, and its count is exact. A rule that goes by
the first appearance, or by the counts, would not be: the parts that are merged would have kept other categories.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.hyperloglog import hash_bits

if TYPE_CHECKING:
    from headrace.features.kernel.states import Values

MOST_CATEGORY = 32
"""The bytes of UTF-8 by which a category counts. A longer one is cut to as many whole characters as fit."""
CATEGORY_TEXT = f"S{MOST_CATEGORY}"
ENTROPY = -1000
"""The item of an entropy. A place counts from 0, and -k is the share of the k most frequent categories."""


@dataclass(frozen=True)
class CategorySketch:
    """The counts of at most ``capacity`` categories, and one entry of all others: its count is negative."""

    capacity: int
    kind: str

    @property
    def dtype(self) -> np.dtype:
        """A record of hash, count and category."""
        return np.dtype([("hash", "<u8"), ("count", "<i8"), ("category", self.kind)])

    def lift(self, values: np.ndarray, time_us: np.ndarray, offset: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """One entry a row. Texts are bytes of a fixed length."""
        entries = np.empty(len(values), self.dtype)
        words = np.ascontiguousarray(values).view("<u8").reshape(len(values), self.dtype["category"].itemsize // 8)
        hashes = np.zeros(len(values), np.uint64)
        for place in range(words.shape[1]):
            hashes = hash_bits(hashes ^ words[:, place])
        entries["hash"], entries["count"], entries["category"] = hashes, 1, values
        return entries

    def collapse(self, entries: np.ndarray, owner: np.ndarray, rank: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # noqa: ARG002
        """The count of each kept category by its hash, then that of the others."""
        if not len(entries):
            return entries, owner
        is_rest = entries["count"] < 0
        order = np.lexsort((entries["hash"], is_rest, owner))
        same, differs = _alike(entries, owner, is_rest, order)
        if differs:  # two categories with one hash
            order = np.lexsort((entries["category"], entries["hash"], is_rest, owner))
            same, _ = _alike(entries, owner, is_rest, order)
        starts = np.flatnonzero(np.append([True], ~same))
        merged, of, rest = entries[order[starts]], owner[order[starts]], is_rest[order[starts]]
        merged["count"] = np.add.reduceat(entries["count"][order], starts)
        beyond = (np.arange(len(of)) - np.searchsorted(of, of) >= self.capacity) & ~rest
        return self._without(merged, of, rest, beyond) if beyond.any() else (merged, of)

    def _without(
        self, entries: np.ndarray, owner: np.ndarray, is_rest: np.ndarray, beyond: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The entries without those beyond the capacity, whose counts go to the rest of their owner."""
        lost = np.zeros(int(owner[-1]) + 1, np.int64)
        np.add.at(lost, owner[beyond], entries["count"][beyond])
        entries, owner, is_rest = entries[~beyond], owner[~beyond], is_rest[~beyond]
        entries["count"][is_rest] -= lost[owner[is_rest]]
        lost[owner[is_rest]] = 0
        fresh = np.flatnonzero(lost)
        added = np.zeros(len(fresh), self.dtype)
        added["count"] = -lost[fresh]
        entries, owner = np.concatenate([entries, added]), np.concatenate([owner, fresh])
        order = np.argsort(owner, kind="stable")
        return entries[order], owner[order]

    def value(self, entries: np.ndarray, count: np.ndarray, item: int) -> Values:
        """A category by its place among the most frequent ones, a share, or the entropy in bits."""
        owner = np.repeat(np.arange(len(count)), count)
        rows = np.abs(entries["count"])
        if item >= 0:
            return self._at(entries, owner, len(count), item)
        total = np.bincount(owner, rows, len(count))
        there = total > 0
        if item == ENTROPY:
            share = rows / total[owner]
            return np.bincount(owner, -share * np.log2(share), len(count)) + 0.0, there
        order = np.lexsort((-rows, entries["count"] < 0, owner))
        by_owner = owner[order]
        top = (np.arange(len(order)) - np.searchsorted(by_owner, by_owner) < -item) & (entries["count"][order] > 0)
        most = np.bincount(by_owner[top], rows[order][top], len(count))
        return np.divide(most, total, out=np.zeros(len(count)), where=there), there

    def _at(self, entries: np.ndarray, owner: np.ndarray, owners: int, place: int) -> Values:
        """The category at a place; of equally frequent ones the smaller is first."""
        named = entries["count"] > 0
        entries, owner = entries[named], owner[named]
        order = np.lexsort((entries["category"], -entries["count"], owner))
        by_owner = owner[order]
        chosen = np.flatnonzero(np.arange(len(order)) - np.searchsorted(by_owner, by_owner) == place)
        there = np.zeros(owners, bool)
        there[by_owner[chosen]] = True
        found = entries["category"][order[chosen]]
        is_text = found.dtype.kind == "S"
        values = np.full(owners, None, object) if is_text else np.zeros(owners, found.dtype)
        values[by_owner[chosen]] = [text.decode() for text in found.tolist()] if is_text else found
        return values, there


def _alike(entries: np.ndarray, owner: np.ndarray, is_rest: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, bool]:
    """Whether each entry is of the category of the one before it; and whether one has its hash and is another one."""
    one, other = order[1:], order[:-1]
    same: np.ndarray = (owner[one] == owner[other]) & (is_rest[one] == is_rest[other])
    same &= entries["hash"][one] == entries["hash"][other]
    differs = same & (entries["category"][one] != entries["category"][other])
    return same & ~differs, bool(differs.any())
