"""The rule `drift`: the scores of the newest days are unlike those of the days before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.base.times import Duration, duration_us, format_duration
from headrace.trainers.triggers.evidence import DAY_US, Evidence, YardstickScores
from headrace.trainers.triggers.rule_parts import check_positive, check_whole_days, verdict_of
from headrace.trainers.triggers.score_drift import most_drift
from headrace.trainers.triggers.trigger_specs import ScoreDriftSpec

if TYPE_CHECKING:
    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict
    from headrace.trainers.triggers.trigger_state import TriggerState


@dataclass(frozen=True)
class ScoreDriftRule:
    """Fires when the scores of the newest ``sample`` of days with predictions differ from those of the days before it.

    The difference must be more than ``psi`` and more than days without drift differ from each other.
    """

    psi: float
    sample: Duration
    seed: int = 0
    name: str = "drift"

    def __post_init__(self) -> None:
        check_positive(f"{self.name}(psi=…)", self.psi)
        check_whole_days(f"{self.name}(sample=…)", self.sample)

    def measure(self, evidence: Evidence) -> RuleInputs:
        """Return the PSI, the resampled threshold, the number of days in sample and reference, and the yardstick."""
        by_yardstick = YardstickScores(evidence.scores()) if evidence.by_yardstick is None else evidence.by_yardstick()
        days, scores = duration_us(self.sample) // DAY_US, by_yardstick.scores
        found = most_drift(
            scores.day, scores.score, self.psi, until_day=evidence.day, sample_days=days, seed=self.seed + evidence.day
        )
        named = {"yardstick": by_yardstick.version, "lacking": by_yardstick.lacking or None}
        return {name: value for name, value in named.items() if value is not None} | {
            "psi": found.psi,
            "resampled": found.threshold,
            "sample_days": found.sample_days,
            "reference_days": found.reference_days,
            "needed_days": found.needed_days,
        }

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
            f"{inputs['resampled']:.3f}, which days without drift reach"
        )
        if "yardstick" in inputs:
            reason += f"; all scores are of version {inputs['yardstick']}"
        return [verdict_of(self.name, inputs["psi"] > limit, reason, inputs["psi"] / limit)]

    @cached_property
    def spec(self) -> ScoreDriftSpec:
        """The rule as data."""
        return ScoreDriftSpec(psi=self.psi, sample=format_duration(duration_us(self.sample)))

    def labels(self) -> int | None:
        """None: the rule needs no labels."""
        return None
