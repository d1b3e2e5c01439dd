"""Which days a sample and its reference have, and how much each of them counts.

Each day has the same weight, whatever its traffic, and each weekday counts in the reference as much as in the sample.
So traffic that falls or rises, and closed days, are no drift.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headrace.trainers.metrics.block_rows import Floats

    Ints = NDArray[np.int64]

SAMPLES_IN_REFERENCE, MOST_SAMPLES = 3, 8
LOOK_BACK = 2
"""The days with rows of a sample are looked for in twice as many days, and at least in a week more."""
WEEK = 7
_WHOLE_DAY = 50
"""A day of n rows weighs n / (n + 50): hundreds of rows are one day whatever their number, three are nearly none."""


class ComparedDays(NamedTuple):
    """The days with rows of a sample, and of the reference before it. ``needed`` is the least length of the latter."""

    reference: Ints
    sample: Ints
    needed: int
    enough: bool


def compared_days(days: Ints, *, until_day: int, sample_days: int) -> ComparedDays:
    """Choose from the ``days`` with rows, in their order, the newest ``sample_days`` before ``until_day``.

    The reference has three times as many days before these at least, and has the newest eight times as many. The sample
    is looked for in twice its days, or in a week more: a shop that is closed on Sundays has one.
    """
    served = days[days < until_day]
    oldest = until_day - max(LOOK_BACK * sample_days, sample_days + WEEK)
    sample = served[served >= oldest][-sample_days:]
    first = int(sample[0]) if len(sample) else until_day
    reference, needed = served[served < first][-MOST_SAMPLES * sample_days :], SAMPLES_IN_REFERENCE * sample_days
    return ComparedDays(reference, sample, needed, len(reference) >= needed and len(sample) >= sample_days)


def day_weights(rows: Ints) -> Floats:
    """Return by how much days of so many rows count."""
    found: Floats = rows / (rows + _WHOLE_DAY)
    return found


def alike_weights(weekday: Ints, weight: Floats, sample_weekday: Ints, sample_weight: Floats) -> Floats:
    """Return the weights of the reference's days with which each weekday counts as much as in the sample.

    With fewer than three days of one of these weekdays, the days count whatever weekday they are.
    """
    wanted, there = np.bincount(sample_weekday, sample_weight, WEEK), np.bincount(weekday, weight, WEEK)
    if (np.bincount(weekday, minlength=WEEK)[wanted > 0] < SAMPLES_IN_REFERENCE).any():
        wanted, there = np.full(WEEK, 1.0), np.full(WEEK, float(weight.sum()))
    found: Floats = weight * (wanted / np.where(there > 0, there, 1.0))[weekday]
    return found
