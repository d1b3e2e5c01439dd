"""The bound on what a worker keeps of its entities in memory; the rest is in the store, and comes back when asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.streams.view_partition import ViewPartition


def bound(views: Sequence[ViewPartition], most_bytes: int) -> None:
    """Where the views take more than that, each forgets the half of its entities that was used least recently.

    By halves, so that the cost of forgetting is spread over as many entities as come.
    """
    if sum(view.nbytes for view in views) > most_bytes:
        for view in views:
            view.forget()
