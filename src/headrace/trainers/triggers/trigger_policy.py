"""The policy around a model's rule: when nothing may fire (cooldown, budget, pin, open run), and the first version."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import Instant, said_minute, utc_datetime
from headrace.errors import DefinitionError, NotMeasuredError
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.hysteresis import check_names
from headrace.trainers.triggers.trigger_rule import RuleVerdict, TriggerRule
from headrace.trainers.triggers.trigger_state import Baseline, TriggerState, as_counted, counted_inputs
from headrace.trainers.triggers.waiting_labels import as_inputs, with_waiting
from headrace.trainers.triggers.watched_inputs import WatchedInput, marked, with_marks

if TYPE_CHECKING:
    from headrace.trainers.triggers.evidence import Evidence

FIRST = "first"
OPERATOR = "operator"
SHARE_AFTER_REFUSAL = 4


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation at a tick, with everything that it rests on.

    ``rule`` names the rules that fired, or else the nearest rule or the hold. ``request`` is the id of the run that is
    asked for. ``inputs``, ``state`` and ``t_us`` determine the verdict; ``progress`` runs from 0 to 1, where the rule
    fires.
    """

    fired: bool
    rule: str
    reason: str
    progress: float
    t_us: Instant
    inputs: dict[str, Any]
    verdicts: list[RuleVerdict]
    state: TriggerState
    after: TriggerState
    request: str | None


class WatchReport(msgspec.Struct, frozen=True, kw_only=True):
    """All watched inputs of a model as of the beginning of a day.

    If one of them is out of range while a hold stops the rules, ``rules`` are their verdicts all the same. Nothing
    follows from these.
    """

    inputs: list[WatchedInput]
    rules: list[RuleVerdict] | UnsetType = UNSET


@dataclass(frozen=True)
class TriggerPolicy:
    """A model's rule and the limits around it.

    ``first_after`` is the number of matured rows that version 1 needs. ``cooldown_us`` and the days of
    ``daily_budget``, the largest number of requests on one day, are event time.
    """

    model: str
    rule: TriggerRule
    first_after: int
    cooldown_us: int
    daily_budget: int | None = None

    def __post_init__(self) -> None:
        if self.first_after <= 0 or self.cooldown_us < 0:
            message = (
                f"model {self.model!r}: first_after={self.first_after} must be above 0, "
                f"cooldown={self.cooldown_us / DAY_US:g} days at least 0"
            )
            raise DefinitionError(message)
        if self.daily_budget is not None and self.daily_budget <= 0:
            message = f"model {self.model!r}: daily_budget={self.daily_budget} must be above 0, or None for no bound"
            raise DefinitionError(message)
        check_names(self.rule)

    @property
    def enough_labels(self) -> int:
        """The number of new labels that is enough: the volume of the rule, or else ``first_after``."""
        return self.rule.labels() or self.first_after

    def evaluate(self, state: TriggerState, evidence: Evidence, code: str | None = None) -> Decision:
        """Measure and judge. Scores and outcomes are read only if the decision can depend on them.

        ``code`` is the identity of the model's code and configuration now: a run that failed with another one holds
        nothing up.
        """
        inputs: dict[str, Any] = {
            "matured_labels": evidence.matured_labels,
            **counted_inputs(state, evidence.still_counted),
            **as_inputs(evidence.waiting),
            **marked(evidence.watched),
        }
        if code is not None and state.baseline is not None and state.baseline.code is not UNSET:
            inputs["code"] = code
        if self._hold(as_counted(state, inputs), evidence.t_us, inputs) is None and state.live:
            inputs["rules"] = self.rule.measure(evidence)
        return self.judge(state, evidence.t_us, inputs)

    def watch_report(self, state: TriggerState, evidence: Evidence, decision: Decision) -> WatchReport | UnsetType:
        """Return the watched inputs, if there are any.

        If one is out of range while a hold stops the rules, these are evaluated all the same. Nothing follows from
        that: the decision stays as it is.
        """
        inputs = [*evidence.watched]
        if not inputs:
            return UNSET
        is_held = state.live and "rules" not in decision.inputs
        if not is_held or not any(each.out for each in inputs):
            return WatchReport(inputs=inputs)
        found = self.rule.judge(as_counted(state, decision.inputs), evidence.t_us, self.rule.measure(evidence))
        return WatchReport(inputs=inputs, rules=found[1:] or found)

    def ask(self, state: TriggerState, evidence: Evidence, *, words: str, lift_pin: bool) -> Decision:
        """Decide on a person's wish for a run at once: ``words`` are who and why.

        Only an open run stands above it, and a pin that it does not lift.
        """
        operator = {"words": words, "lift_pin": lift_pin}
        inputs = {"matured_labels": evidence.matured_labels, OPERATOR: operator, **as_inputs(evidence.waiting)}
        return self.judge(state, evidence.t_us, inputs)

    def judge(self, state: TriggerState, t_us: int, inputs: dict[str, Any]) -> Decision:
        """The decision that these inputs lead to. It is always the same, so a record can be judged again.

        Raises NotMeasuredError if other inputs are needed, because the policy has changed since they were measured.
        """
        counted = as_counted(state, inputs)
        if OPERATOR in inputs:
            verdicts = [_wished(state, **inputs[OPERATOR])]
        elif (held := self._hold(counted, t_us, inputs)) is not None:
            verdicts = [held]
        elif not state.live:
            verdicts = [self._first(inputs)]
        elif "rules" in inputs:
            verdicts = self.rule.judge(counted, t_us, inputs["rules"])
        else:
            raise NotMeasuredError(f"model {self.model!r}: its rules were held, so nothing was measured for them")
        own = verdicts[0]
        rule = _leaves(verdicts)
        request = request_id(self.model, state.baseline, state.abandoned) if own.fired else None
        return Decision(
            fired=own.fired,
            rule=rule,
            reason=with_marks(with_waiting(own.reason, inputs), inputs),
            progress=own.progress,
            t_us=t_us,
            inputs=inputs,
            verdicts=verdicts,
            state=state,
            after=_after(state, t_us, verdicts, request),
            request=request,
        )

    def _first(self, inputs: dict[str, Any]) -> RuleVerdict:
        have = inputs["matured_labels"]
        reason = f"{have:,} of {self.first_after:,} matured labels for the first version"
        progress = min(1.0, have / self.first_after)
        return RuleVerdict(rule=FIRST, fired=have >= self.first_after, reason=reason, progress=progress)

    def _hold(self, state: TriggerState, t_us: int, inputs: dict[str, Any]) -> RuleVerdict | None:
        """The reason why no rule may fire now, as a verdict; None if they may."""
        if state.request is not None:
            return _held("open_request", f"run {state.request} is not finished", 1.0)
        if state.pin is not None:
            new = inputs["matured_labels"] - state.pin.matured_labels
            if new < self.enough_labels:
                reason = f"the live version is pinned: {new:,} of {self.enough_labels:,} matured labels since the pin"
                return _held("pinned", reason, new / self.enough_labels)
        asked = state.asked_on(t_us // DAY_US)
        if self.daily_budget is not None and asked >= self.daily_budget:
            reason = f"daily budget: {asked} of {self.daily_budget} runs asked for on {utc_datetime(t_us):%Y-%m-%d}"
            return _held("daily_budget", reason, t_us % DAY_US / DAY_US)
        return None if state.baseline is None else self._hold_after(state.baseline, t_us, inputs)

    def _hold_after(self, baseline: Baseline, t_us: int, inputs: dict[str, Any]) -> RuleVerdict | None:
        day = f"{utc_datetime(baseline.t_us):%Y-%m-%d}"
        if baseline.released is not UNSET:
            return None  # a person said so
        if baseline.code is not UNSET and inputs.get("code", baseline.code) != baseline.code:
            return None  # it failed with other code
        waited = t_us - baseline.cooldown_from_us
        if waited < self.cooldown_us:
            since = f"{utc_datetime(baseline.cooldown_from_us):%Y-%m-%d}"
            reason = f"cooldown: {waited / DAY_US:.1f} of {self.cooldown_us / DAY_US:.1f} days since the run of {since}"
            return _held("cooldown", reason, waited / self.cooldown_us)
        if baseline.judged_us is not UNSET and (waits := _postponed(baseline, t_us)) is not None:
            return waits
        new, need = inputs["matured_labels"] - baseline.matured_labels, self.enough_labels // SHARE_AFTER_REFUSAL
        if baseline.outcome != "published" and new < need:
            ended = baseline.outcome if baseline.cancelled is UNSET else baseline.cancelled
            reason = f"the run of {day} was {ended}: {new:,} of {need:,} matured labels before asking again"
            return _held("after_refusal", reason, new / need)
        return None


def _postponed(baseline: Baseline, t_us: int) -> RuleVerdict | None:
    """Hold after a postponed run until it can be judged, or until the next day if that is not known."""
    words = f"the run of {utc_datetime(baseline.t_us):%Y-%m-%d} was postponed"
    if baseline.again_us is UNSET:
        is_today = t_us // DAY_US == baseline.t_us // DAY_US
        reason = f"{words}: it is asked for again on the next day"
        return _held("postponed", reason, t_us % DAY_US / DAY_US) if is_today else None
    if t_us >= baseline.again_us:
        return None
    reason = f"{words}: it can be judged from {said_minute(baseline.again_us)} on"
    return _held("postponed", reason, (t_us - baseline.t_us) / max(baseline.again_us - baseline.t_us, 1))


def _wished(state: TriggerState, words: str, *, lift_pin: bool) -> RuleVerdict:
    """The verdict on a person's wish for a run."""
    if state.request is not None:
        return _held(OPERATOR, f"asked by {words}, but run {state.request} is not finished", 0.0)
    if state.pin is not None and not lift_pin:
        return _held(OPERATOR, f"asked by {words}, but a version is pinned, and the request does not lift the pin", 0.0)
    return RuleVerdict(rule=OPERATOR, fired=True, reason=f"asked by {words}", progress=1.0)


def _after(state: TriggerState, t_us: int, verdicts: list[RuleVerdict], request: str | None) -> TriggerState:
    """The state after a decision: the requested run, its day, and the rules that have to calm down first."""
    disarmed = set(state.disarmed) - {v.rule for v in verdicts if v.armed}
    state = msgspec.structs.replace(state, streaks={v.rule: v.streak for v in verdicts if v.streak} or UNSET)
    if request is None:
        return msgspec.structs.replace(state, disarmed=tuple(sorted(disarmed)))
    disarmed |= {v.rule for v in verdicts if v.armed and v.fired}
    day = t_us // DAY_US
    return msgspec.structs.replace(
        state,
        request=request,
        disarmed=tuple(sorted(disarmed)),
        asked_day=day,
        asked_count=state.asked_on(day) + 1,
    )


def request_id(model: str, baseline: Baseline | None, abandoned: int | UnsetType = UNSET) -> str:
    """The id of the run that follows the baseline.

    It depends only on the model, the baseline and the number of runs after it that a reset has abandoned, so asking
    twice does no harm, whichever rules ask.
    """
    content = "\n".join([model, "" if baseline is None else baseline.run, *([str(abandoned)] if abandoned else [])])
    return f"{model}-{hashlib.sha256(content.encode()).hexdigest()[:16]}"


def _held(rule: str, reason: str, progress: float) -> RuleVerdict:
    return RuleVerdict(rule=rule, fired=False, reason=reason, progress=max(0.0, min(1.0, progress)))


def _leaves(verdicts: list[RuleVerdict]) -> str:
    """The names of the simple rules that decided: all that fired, or else the one that is nearest to firing."""
    simple = verdicts[1:] or verdicts
    fired = [verdict.rule for verdict in simple if verdict.fired]
    if verdicts[0].fired:
        return "+".join(fired)
    return max((verdict for verdict in simple if not verdict.fired), key=lambda verdict: verdict.progress).rule
