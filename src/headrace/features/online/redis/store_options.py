"""The limits of one call of the store: its time, and its number of connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from headrace.base.times import SECOND, duration_us

if TYPE_CHECKING:
    from headrace.base.times import Duration


class StoreOptions(TypedDict, total=False):
    """The options of every client of Redis, for threads and for asyncio.

    ``timeout`` (default ``"5s"``): how long a call waits for an answer. ``retry`` (default ``"1s"``): how long
    after it was first sent a call may be sent again, if its failure may pass, for example while a master fails over;
    ``"0s"`` means never. A call takes at most both times together. ``pool_size`` (default None): the largest number of
    connections to one node; None means as many as there are calls at a time.
    """

    timeout: Duration
    retry: Duration
    pool_size: int | None


@dataclass(frozen=True)
class CallLimits:
    """:class:`StoreOptions` as numbers: seconds, and connections to one node.

    If a cluster's node sends a command to another node, this is not a failure: it is sent there with any ``retry_s``.
    """

    timeout_s: float = 5.0
    retry_s: float = 1.0
    pool_size: int | None = None

    @staticmethod
    def from_options(timeout: Duration = "5s", retry: Duration = "1s", pool_size: int | None = None) -> CallLimits:
        """Return the limits that these options set. Raises DefinitionError for text that is not a duration."""
        return CallLimits(duration_us(timeout) / SECOND, duration_us(retry) / SECOND, pool_size)
