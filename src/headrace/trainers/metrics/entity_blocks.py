"""Blocks of rows by entity: all rows of an entity are in one block. Of many entities several share a block."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

MOST_ENTITY_BLOCKS = 500
"""The most blocks that entities are put into: the time and the memory of a gate grow with their square."""
_BYTES = 8


def entity_hashes(keys: Iterable[tuple[str | int | None, ...]]) -> NDArray[np.uint64]:
    """Return a number for the entity of each row, by its key. It is the same in every process and on every machine.

    Rows without a value in a field of the key are of the entity that has none there.
    """
    return np.fromiter(map(cache(_hash), keys), np.uint64)


def _hash(key: tuple[str | int | None, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(msgspec.json.encode(key), digest_size=_BYTES).digest(), "big")


def entity_blocks(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the block of each row, from the hash of its entity.

    Each entity is a block of its own, up to ``MOST_ENTITY_BLOCKS`` of them. More entities are put into so many groups,
    of about equally many entities each, in the order of their hashes. This order has nothing to do with their rows, so
    groups are as independent of each other as entities are.
    """
    found, entity = np.unique(hashes, return_inverse=True)
    blocks: NDArray[np.int64] = entity.astype(np.int64) * min(len(found), MOST_ENTITY_BLOCKS) // max(len(found), 1)
    return blocks
