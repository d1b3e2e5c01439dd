"""Time-forward evidence for the gate: which days to fit on and which to judge by, and both models' scores on these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headrace.trainers.runs import gate
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.models.manifest import TimeSpan
    from headrace.models.model_events import Published
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.data.model_log import ModelLog
    from headrace.trainers.definitions import Model

_LAST_PERIOD_DAYS = 7


@dataclass(frozen=True)
class HoldoutSplit:
    """Rows to fit on and rows to judge by: whole days, the fit's rows matured before the first of them."""

    train: np.ndarray
    holdout: np.ndarray
    days: tuple[int, int]

    @property
    def empty(self) -> bool:
        """Whether one side has no rows."""
        return not (self.train.any() and self.holdout.any())


def split(model: Model, data: Examples, t_us: int, excluded: Sequence[TimeSpan] = ()) -> HoldoutSplit:
    """The newest whole matured days for the gate; for the fit what was matured when the first of them began.

    Days that are excluded as a whole do not count: the gate looks further back instead.
    """
    within = model.label.within_us
    last = first = (t_us - within) // DAY_US
    wanted = model.gate.holdout_us // DAY_US
    while wanted:
        first -= 1
        wanted -= not any(s.from_us <= first * DAY_US and (first + 1) * DAY_US <= s.to_us for s in excluded)
    holdout = (data.day >= first) & (data.day < last)
    return HoldoutSplit(data.requested_us + within <= first * DAY_US, holdout, (int(first), int(last)))


@dataclass(frozen=True)
class GateJudge:
    """Judges challengers of one model. ``log`` has the champion's logged live predictions."""

    model: Model
    log: ModelLog
    seed: int

    def first(self, data: Examples, rows: HoldoutSplit, scores: np.ndarray, looks: np.ndarray) -> gate.GateReport:
        """The challenger against the constants that a first version must beat."""
        held, label = data.take(rows.holdout), data.label[rows.train]
        newest = data.day[rows.train] >= rows.days[0] - _LAST_PERIOD_DAYS
        return gate.judge_first(
            held.day,
            held.label,
            scores,
            label_rate=float(label.mean()),
            last_rate=float(label[newest].mean()) if newest.any() else float(label.mean()),
            looks=looks,
            seed=self.seed,
        )

    def against(
        self, champion: Published, t_us: int, held: Examples, scores: np.ndarray, looks: np.ndarray
    ) -> gate.GateReport:
        """The challenger against what the champion answered live, on rows that the champion had not been fitted on."""
        served = self.log.outcomes(t_us, champion.version, "live")
        of_key = dict(zip(served.get_column("key").to_list(), served.get_column("score").to_list(), strict=True))
        theirs = np.array([of_key.get(key, np.nan) for key in held.key.tolist()])
        both = ~np.isnan(theirs) & (held.requested_us >= champion.trained_to_us)
        rule = self.model.gate
        return gate.judge(
            held.day[both],
            held.label[both],
            theirs[both],
            scores[both],
            metric=rule.metric,
            rule=rule.rule,
            margin=rule.margin,
            looks=looks[both],
            seed=self.seed,
        )
