"""The rule `drift`: the scores of the newest days are unlike those of the days before."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from msgspec import UNSET

from headrace.base.times import Duration, duration_us, format_duration
from headrace.errors import DefinitionError
from headrace.trainers.triggers.evidence import DAY_US, Evidence, ServedScores, YardstickScores
from headrace.trainers.triggers.rule_parts import check_positive, check_whole_days, verdict_of
from headrace.trainers.triggers.score_drift import DriftMeasurement, most_drift
from headrace.trainers.triggers.trigger_specs import ScoreDriftSpec

if TYPE_CHECKING:
    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict
    from headrace.trainers.triggers.trigger_state import TriggerState

_MEASURED: WeakKeyDictionary[ServedScores, dict[Any, DriftMeasurement]] = WeakKeyDictionary()


@dataclass(frozen=True)
class ScoreDriftRule:
    """Fires when the scores of the newest ``sample`` of days with predictions differ from those of the days before it.

    The difference must be more than ``psi`` and more than days without drift differ from each other: in 99 % of
    samples, or as often as ``false_alarms`` says, such as ``3/year``.
    """

    psi: float
    sample: Duration
    seed: int = 0
    name: str = "drift"
    false_alarms: str | None = None

    def __post_init__(self) -> None:
        check_positive(f"{self.name}(psi=…)", self.psi)
        check_whole_days(f"{self.name}(sample=…)", self.sample)
        _ = self.alarms_a_year  # its own checks

    @cached_property
    def alarms_a_year(self) -> float | None:
        """The rate of false alarms, or None."""
        return None if self.false_alarms is None else _rate(f"{self.name}(false_alarms=…)", self.false_alarms)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the PSI, the resampled threshold, the number of days in sample and reference, and the yardstick."""
        by_yardstick = YardstickScores(evidence.scores()) if evidence.by_yardstick is None else evidence.by_yardstick()
        found = self._found(by_yardstick.scores, evidence.day)
        named = {"yardstick": by_yardstick.version, "lacking": by_yardstick.lacking or None}
        return {name: value for name, value in named.items() if value is not None} | {
            "psi": found.psi,
            "resampled": found.threshold,
            "sample_days": found.sample_days,
            "reference_days": found.reference_days,
            "needed_days": found.needed_days,
        }

    def _found(self, scores: ServedScores, day: int) -> DriftMeasurement:
        """Measure the drift at the beginning of a day, once for the same scores: a rule is judged each minute."""
        known = _MEASURED.setdefault(scores, {})
        if (self, day) not in known:
            known[self, day] = most_drift(
                scores.day,
                scores.score,
                self.psi,
                until_day=day,
                sample_days=duration_us(self.sample) // DAY_US,
                seed=self.seed + day,
                alarms_a_year=self.alarms_a_year,
            )
        return known[self, day]

    def judge(self, state: TriggerState, t_us: int, inputs: RuleInputs) -> list[RuleVerdict]:
        """Compare the PSI with the larger of the two thresholds."""
        del state, t_us
        if inputs["psi"] is None:
            if "lacking" in inputs:
                return [verdict_of(self.name, fired=False, reason=inputs["lacking"], progress=0.0)]
            sample = format_duration(duration_us(self.sample))
            have, need, before = inputs["reference_days"], inputs["needed_days"], f"before the sample of {sample}"
            if have >= need:
                have, need, before = inputs["sample_days"], duration_us(self.sample) // DAY_US, "in the newest weeks"
            reason = f"too few days to compare with: {have} of {need} served days {before}"
            return [verdict_of(self.name, fired=False, reason=reason, progress=0.0)]
        limit = max(self.psi, inputs["resampled"])
        reason = (
            f"score PSI {inputs['psi']:.3f}, limit {limit:.3f}: the larger of the rule's {self.psi:.3f} and "
            f"{inputs['resampled']:.3f}, which days without drift {self._often}"
        )
        if "yardstick" in inputs:
            reason += f"; all scores are of version {inputs['yardstick']}"
        return [verdict_of(self.name, inputs["psi"] > limit, reason, inputs["psi"] / limit)]

    @property
    def _often(self) -> str:
        rate = self.alarms_a_year
        return "seldom exceed" if rate is None else f"exceed {rate:g} times a year"

    @cached_property
    def spec(self) -> ScoreDriftSpec:
        """The rule as data."""
        rate = self.alarms_a_year
        return ScoreDriftSpec(
            psi=self.psi,
            sample=format_duration(duration_us(self.sample)),
            false_alarms=UNSET if rate is None else f"{rate:g}/year",
        )

    def labels(self) -> int | None:
        """None: the rule needs no labels."""
        return None


_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*year\s*")
_MOST = 12


def _rate(where: str, text: object) -> float:
    """Return the alarms a year that a text such as ``3/year`` allows. Raises DefinitionError."""
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None or not 0 < float(found[1]) <= _MOST:
        message = f"{where}: {text!r} is no rate: give at most {_MOST} alarms a year as text, such as '3/year'"
        raise DefinitionError(message)
    return float(found[1])
