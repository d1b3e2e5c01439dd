"""The bound on what a worker keeps of its entities in memory; the rest is in the store, and comes back when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from headrace.streams.view_memory import ViewMemory


def bound(memories: Collection[ViewMemory], most_bytes: int) -> None:
    """Where they take more than that together, each forgets the half of its entities that was used least recently.

    By halves, so that the cost of forgetting is spread over as many entities as come.
    """
    if sum(memory.nbytes for memory in memories) > most_bytes:
        for memory in memories:
            memory.forget()
