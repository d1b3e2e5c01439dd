"""The span of a holdout: from when to when the requests came that a challenger is judged by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from msgspec import UNSET, UnsetType

from headrace.base.times import SECOND, duration_us
from headrace.models.manifest import TimeSpan
from headrace.trainers.data.exclusions import merged
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from headrace.trainers.definitions import Model
    from headrace.trainers.gate_definition import Gate

_MINUTE_US = 60 * SECOND
_MOST_CLOSED_US = 7 * DAY_US


class HoldoutSpan(NamedTuple):
    """The times [from, to) of the requests in a holdout, in microseconds."""

    from_us: int
    to_us: int

    @classmethod
    def of_days(cls, first: int, last: int) -> HoldoutSpan:
        """The span of the whole days [first, last), counted since the epoch."""
        return cls(first * DAY_US, last * DAY_US)

    def beginning(self, from_us: int | UnsetType) -> HoldoutSpan:
        """The span from this time on, if a gate's report says that it begins earlier than usual."""
        return self if from_us is UNSET else HoldoutSpan(from_us, self.to_us)

    @property
    def days(self) -> tuple[int, int]:
        """The days [first, last) that it touches, counted since the epoch."""
        return self.from_us // DAY_US, -(-self.to_us // DAY_US)

    def fields(self) -> dict[str, Any]:
        """Return the fields by which :class:`RunEnded` says it: its days, and the times too if these say more."""
        is_whole = self == self.of_days(*self.days)
        return {"holdout_days": self.days} if is_whole else {"holdout_days": self.days, "holdout_us": tuple(self)}


def block_us(gate: Gate) -> int:
    """Return the length of a block of time. It is a day if blocks are entities: a holdout then has whole days."""
    return duration_us(gate.block_length)


def rounding_us(gate: Gate) -> int:
    """Return the time to whose multiples a holdout is rounded: a day, or a minute if its blocks are shorter."""
    return DAY_US if block_us(gate) >= DAY_US else _MINUTE_US


def holdout_span(model: Model, t_us: int, excluded: Sequence[TimeSpan] = ()) -> HoldoutSpan:
    """Return the newest whole matured days, as many as the model's gate asks for, or minutes for shorter blocks.

    Days (or minutes) that are excluded as a whole do not count: the holdout begins earlier instead.
    """
    rounded = rounding_us(model.gate)
    last = begin = (t_us - model.label.spec.within_us) // rounded * rounded
    wanted = duration_us(model.gate.holdout)
    for low, high in reversed(merged(excluded)):
        bad_from, bad_to = -(-low // rounded) * rounded, min(high // rounded * rounded, begin)
        if bad_from >= bad_to:
            continue
        if begin - bad_to >= wanted:
            break
        wanted -= begin - bad_to
        begin = bad_from
    return HoldoutSpan(begin - wanted, last)


def closed_days(gate: Gate, requested_us: NDArray[np.int64], until_us: int) -> list[TimeSpan]:
    """Return the days without requests before ``until_us``, where blocks are days: a shop may close on Sundays.

    They count like days that are excluded. More than a week without requests is no closed shop: these days count.
    """
    if gate.block_keys or block_us(gate) != DAY_US or not len(requested_us):
        return []
    days = np.unique(np.append(requested_us[requested_us < until_us], until_us) // DAY_US) * DAY_US
    gaps = zip((days[:-1] + DAY_US).tolist(), days[1:].tolist(), strict=True)
    return [
        TimeSpan(from_us=begin, to_us=end, reason="closed") for begin, end in gaps if 0 < end - begin <= _MOST_CLOSED_US
    ]
