"""The evidence that the trigger rules judge by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from headrace.trainers.triggers.waiting_labels import WaitingLabels
    from headrace.trainers.triggers.watched_inputs import WatchedInput

DAY_US = 86_400_000_000
Rival = Literal["previous_version", "refit"]
"""The models that the live version is compared with on the same rows."""


@dataclass(frozen=True, eq=False)
class ServedScores:
    """The scores that the live version served. No score belongs to one of its training rows.

    What follows from them is kept with the object: the same one means the same scores.

    The arrays have one entry for each prediction. ``day`` counts days since the epoch. ``score`` has a column for each
    class or quantile, if the task has them.
    """

    day: NDArray[np.int64]
    score: NDArray[np.float64]


@dataclass(frozen=True)
class YardstickScores:
    """The scores that one version, the yardstick, gives to a model's logged vectors, whatever version served them.

    None of them belongs to one of the version's training rows. If ``lacking`` is not empty, it says why there are none.
    """

    scores: ServedScores
    version: int | None = None
    lacking: str = ""


@dataclass(frozen=True)
class Outcomes:
    """Matured outcomes of the live version. The arrays have an entry for each labelled prediction.

    ``label`` and ``score`` are truth and prediction of :class:`BlockRows`.
    """

    day: NDArray[np.int64]
    score: NDArray[np.float64]
    label: NDArray[Any]
    quantiles: Sequence[float] = ()


@dataclass(frozen=True)
class Compared:
    """The outcomes of the live version that another model has predicted too. ``other`` has its predictions.

    ``name`` says in words what the other model is. If ``lacking`` is not empty, it says why there is none.
    """

    outcomes: Outcomes
    other: NDArray[np.float64]
    name: str = ""
    lacking: str = ""


def no_scores() -> ServedScores:
    """Return no scores: the evidence before there is a live version."""
    return ServedScores(np.zeros(0, np.int64), np.zeros(0))


def no_outcomes() -> Outcomes:
    """Return no outcomes: the evidence before there is a live version."""
    return Outcomes(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.int8))


@dataclass(frozen=True)
class Evidence:
    """The facts about a model that are known at the event time ``t_us``.

    ``matured_labels`` is the total so far, not the increase since the last tick. ``scores``, ``outcomes``,
    ``by_yardstick`` and ``compared`` are functions, because reading them is slow: a rule calls them only when it needs
    them. The last two are None where no version can be loaded; ``compared`` takes the other model and the first day.
    ``watched`` are the inputs of the model as of the beginning of the day.
    ``waiting`` names what holds labels up. ``matured_at`` gives the number
    of labels that were matured at an earlier time, without those that are excluded now. None: nothing is excluded.
    """

    t_us: int
    matured_labels: int
    scores: Callable[[], ServedScores] = no_scores
    outcomes: Callable[[], Outcomes] = no_outcomes
    waiting: Sequence[WaitingLabels] = ()
    matured_at: Callable[[int], int] | None = None
    by_yardstick: Callable[[], YardstickScores] | None = None
    compared: Callable[[Rival, int], Compared] | None = None
    watched: Sequence[WatchedInput] = ()

    def still_counted(self, labels: int, t_us: int) -> int:
        """Return how many of the ``labels`` that were matured at ``t_us`` are not excluded now.

        A label that came into the log after that time, or whose exclusion was taken back, is a new one.
        """
        return labels if self.matured_at is None else min(labels, self.matured_at(t_us))

    @property
    def day(self) -> int:
        """The day of ``t_us``, counted since the epoch. It is not complete yet, so rules use the days before it."""
        return self.t_us // DAY_US
