"""Where the triggers of a model stand now: the hold in force or the nearest rule, and when the hold ends.

The last decision on a model may be old: no decision is made while the stream stands still. So what has happened since
counts too: a run that ended, a reset, and what a person has decided about the live version.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.base.times import said_minute
from headrace.errors import NotMeasuredError
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.trigger_policy import SHARE_AFTER_REFUSAL, WatchReport
from headrace.trainers.triggers.trigger_state import as_counted, as_published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.models.model_state import ModelState
    from headrace.trainers.runs.messages import DecisionRecord
    from headrace.trainers.triggers.trigger_policy import Decision, TriggerPolicy
    from headrace.trainers.triggers.trigger_rule import RuleVerdict
    from headrace.trainers.triggers.trigger_state import Baseline, TriggerState

_FREE = "nothing holds the rules: they are judged at the next tick"


@dataclass(frozen=True)
class TriggerStanding:
    """The hold in force, or the nearest rule. ``until`` says what ends a hold, in words; None if nothing holds."""

    rule: str | None
    progress: float | None
    reason: str
    until: str | None
    state: TriggerState
    verdicts: Sequence[RuleVerdict] = ()


def standing(
    policy: TriggerPolicy,
    record: DecisionRecord,
    decided: Decision | None = None,
    published: ModelState | None = None,
) -> TriggerStanding:
    """Return where the triggers of a model stand after its last record.

    ``decided`` is the last decision before it: it knows the number of labels. ``published`` is the state of the model
    by all model events.
    """
    decided = decided if record.decision is None else record.decision
    labels = _labels(record.state, decided)
    state = record.state if published is None else as_published(record.state, published, record.t_us, labels)
    if record.kind == "error":
        verdicts = () if decided is None else decided.verdicts
        return TriggerStanding("error", None, record.reason, None, state, verdicts)
    if record.kind == "evaluated" and record.decision is not None and _holds_alike(record.state, state):
        now = record.decision
    else:
        try:
            now = policy.judge(state, record.t_us, {"matured_labels": labels, **_counted(state, decided)})
        except NotMeasuredError:
            return TriggerStanding(None, None, _FREE, None, state)
    until = None if now.fired else _until(policy, now)
    return TriggerStanding(now.rule, now.progress, now.reason, until, state, now.verdicts)


def _labels(state: TriggerState, decided: Decision | None) -> int:
    """Return the largest number of matured labels that is known."""
    known = [0 if decided is None else decided.inputs.get("matured_labels", 0), state.baseline_labels]
    return max(*known, 0 if state.pin is None else state.pin.matured_labels)


def _holds_alike(then: TriggerState, now: TriggerState) -> bool:
    """Return whether no person has decided about the live version since."""
    return (then.live, then.baseline, _pinning(then)) == (now.live, now.baseline, _pinning(now))


def _pinning(state: TriggerState) -> Any:
    return None if state.pin is None else state.pin.event


def _counted(state: TriggerState, decided: Decision | None) -> dict[str, Any]:
    """Return the inputs of the last decision that hold for this state too."""
    if decided is None:
        return {}
    same = ["baseline_labels", "code"] if decided.state.baseline == state.baseline else []
    same += ["pin_labels"] if decided.state.pin == state.pin else []
    return {name: decided.inputs[name] for name in same if name in decided.inputs}


def _until(policy: TriggerPolicy, now: Decision) -> str | None:
    """Return what ends a hold; None for a rule that is no hold."""
    state, t_us, labels = as_counted(now.state, now.inputs), now.t_us, now.inputs["matured_labels"]
    rule, baseline = now.rule, state.baseline
    if rule == "open_request":
        return f"run {state.request} ends"
    if rule == "pinned" and state.pin is not None:
        missing = policy.enough_labels - (labels - state.pin.matured_labels)
        return f"`headrace models unpin {policy.model}`, or {missing:,} more labels"
    if rule == "daily_budget":
        return said_minute((t_us // DAY_US + 1) * DAY_US)
    if baseline is None or rule not in {"cooldown", "postponed", "after_refusal"}:
        return None
    missing = _missing(policy, baseline, labels)
    if rule == "after_refusal":
        return f"{missing:,} more labels"
    if rule == "cooldown":
        end_us = baseline.cooldown_from_us + policy.cooldown_us
    else:
        end_us = (t_us // DAY_US + 1) * DAY_US if baseline.again_us is msgspec.UNSET else baseline.again_us
    return said_minute(end_us) + (f", and {missing:,} more labels" if missing else "")


def _missing(policy: TriggerPolicy, baseline: Baseline, labels: int) -> int:
    """Return how many labels the hold after a run still wants that did not publish."""
    if baseline.outcome == "published":
        return 0
    return max(0, policy.enough_labels // SHARE_AFTER_REFUSAL - (labels - baseline.matured_labels))


def said_verdicts(verdicts: Sequence[RuleVerdict]) -> list[dict[str, Any]]:
    """Return verdicts as plain JSON."""
    names = ("rule", "fired", "armed", "progress", "reason")
    found = [{name: getattr(each, name) for name in names} for each in verdicts]
    return [each | {"progress": round(each["progress"], 3)} for each in found]


def said_watch(record: DecisionRecord) -> dict[str, Any]:
    """Return the watched inputs of a record, those that are out of range first, and the rules that they opened."""
    watched = record.watched or WatchReport(inputs=[])
    inputs = [{name: getattr(each, name) for name in each.__struct_fields__} for each in watched.inputs]
    return {
        "inputs": sorted(inputs, key=lambda each: not each["out"]),
        "rules": said_verdicts(watched.rules or []),
    }
