"""How long one call of the store may take, and how many connections it may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from headrace.base.times import SECOND, duration_us

if TYPE_CHECKING:
    from headrace.base.times import Duration


class StoreOptions(TypedDict, total=False):
    """The options of every client of Redis, for threads and for asyncio.

    ``timeout`` (default ``"5s"``): how long a call waits for an answer. ``retry`` (default ``"1s"``): a call that
    failed for the moment, for example while a master fails over, is sent again until this long after it was sent first;
    ``"0s"`` means never. A call takes at most both together. ``pool_size`` (default None): the largest number of
    connections to one node; None means as many as there are calls at a time.
    """

    timeout: Duration
    retry: Duration
    pool_size: int | None


@dataclass(frozen=True)
class CallLimits:
    """:class:`StoreOptions` as numbers: seconds, and connections to one node.

    A command that a cluster's node sends to another node did not fail: it follows, whatever ``retry_s`` says.
    """

    timeout_s: float = 5.0
    retry_s: float = 1.0
    pool_size: int | None = None

    @staticmethod
    def from_options(timeout: Duration = "5s", retry: Duration = "1s", pool_size: int | None = None) -> CallLimits:
        """The limits that some options mean. Raises DefinitionError for text that is not a duration."""
        return CallLimits(duration_us(timeout) / SECOND, duration_us(retry) / SECOND, pool_size)
