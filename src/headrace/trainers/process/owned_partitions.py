"""Which models a trainer has: those whose retrain requests go to the partitions that the group gives it."""

from __future__ import annotations

import threading
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def partition_of(model: str, partitions: int) -> int:
    """Return the partition of a model's messages, as Kafka's client chooses it by their key.

    >>> partition_of("delay", 16)
    11
    """
    return zlib.crc32(model.encode()) % partitions


class OwnedPartitions:
    """The partitions of the topic of retrain requests that this trainer has. Safe from any thread.

    A trainer evaluates rules and answers operators for the models of its partitions only. Nobody has a partition twice,
    but a trainer that was cut off may believe so for a moment: what two trainers ask for has one id.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owned: set[int] = set()
        self._partitions = 1

    def assigned(self, owned: Iterable[int], partitions: int) -> None:
        """Called when the group gives partitions of a topic with so many."""
        with self._lock:
            self._owned |= set(owned)
            self._partitions = partitions

    def revoked(self, lost: Iterable[int]) -> None:
        """Called when the group takes partitions back, or has given them to another trainer."""
        with self._lock:
            self._owned -= set(lost)

    def has(self, model: str) -> bool:
        """Return whether the model belongs to this trainer now."""
        with self._lock:
            return partition_of(model, self._partitions) in self._owned
