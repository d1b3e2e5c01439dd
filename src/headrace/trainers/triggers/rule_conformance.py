"""The conformance test of trigger rules: the shipped rules pass it, and a rule of a project can run it too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headrace.errors import DefinitionError
from headrace.trainers.triggers.evidence import DAY_US, Evidence, Outcomes, ServedScores
from headrace.trainers.triggers.trigger_specs import TriggerSpec
from headrace.trainers.triggers.trigger_state import Baseline, TriggerState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict, TriggerRule

_FROM_DAY = 20_000
_DAYS = 120
_A_DAY = 60
_LABELS = 10_000


def check_trigger_rule(rule: TriggerRule) -> None:
    """Raise DefinitionError if a rule breaks the contract of trigger rules, with the scene in which it does.

    The rule sees a model without predictions, one whose scores and outcomes never change, and one whose scores jump
    and whose outcomes become noise. In each scene these hold:

    - ``measure`` gives the same plain JSON for the same evidence.
    - ``judge`` gives the same verdicts for the same numbers, also after these were stored as JSON and read again.
    - Each verdict has a reason, a progress from 0 to 1, and progress 1 if it fires.

    >>> from headrace import volume
    >>> from headrace.testing import check_trigger_rule
    >>> check_trigger_rule(volume(labels=20_000))
    """
    if not isinstance(rule.spec, TriggerSpec):
        raise DefinitionError(f"{rule.name}: spec={rule.spec!r} is no TriggerSpec: give it a subclass with a tag")
    for scene, evidence, state in _scenes():
        where = f"{rule.name}, {scene}"
        inputs = _measured(where, rule, evidence)
        verdicts = rule.judge(state, evidence.t_us, inputs)
        stored = msgspec.json.decode(msgspec.json.encode(inputs))
        if not verdicts or rule.judge(state, evidence.t_us, stored) != verdicts:
            raise DefinitionError(f"{where}: judge gives {verdicts} once, and other verdicts for the stored numbers")
        for verdict in verdicts:
            _check(where, verdict)


def _scenes() -> Iterator[tuple[str, Evidence, TriggerState]]:
    """Yield what a rule may see: a name, the evidence and the state."""
    baseline = Baseline(run="r1", outcome="published", t_us=_FROM_DAY * DAY_US, matured_labels=_LABELS)
    live = TriggerState(live=True, baseline=baseline)
    end = (_FROM_DAY + _DAYS) * DAY_US
    yield "without predictions", Evidence(end, _LABELS), live
    yield "before its first version", Evidence(end, 0), TriggerState()
    for words, changes in (("where nothing changes", False), ("where scores jump and outcomes are noise", True)):
        scores, outcomes = _served(changes=changes)
        yield words, Evidence(end + 5, 9 * _LABELS, lambda s=scores: s, lambda o=outcomes: o), live  # type: ignore[misc]


def _served(*, changes: bool) -> tuple[ServedScores, Outcomes]:
    """Return the scores and the outcomes of 120 days. After half of them everything is different if it ``changes``."""
    rng = np.random.default_rng(0)
    day = np.repeat(np.arange(_FROM_DAY, _FROM_DAY + _DAYS, dtype=np.int64), _A_DAY)
    score = rng.beta(2.0, 5.0, day.size)
    label = (rng.random(day.size) < score).astype(np.int8)
    late = day >= _FROM_DAY + _DAYS // 2
    if changes:
        score[late] = rng.beta(5.0, 2.0, int(late.sum()))
        label[late] = rng.random(int(late.sum())) < 0.5  # noqa: PLR2004 - a coin
    return ServedScores(day, score), Outcomes(day, score, label)


def _measured(where: str, rule: TriggerRule, evidence: Evidence) -> RuleInputs:
    inputs: Any = rule.measure(evidence)
    if not isinstance(inputs, dict):
        raise DefinitionError(f"{where}: measure gives {inputs!r}, wanted a dict of plain JSON values")
    try:
        stored = msgspec.json.decode(msgspec.json.encode(inputs))
    except (TypeError, ValueError) as error:
        raise DefinitionError(f"{where}: measure gives {inputs!r}, which is no JSON: {error}") from error
    if stored != inputs:
        message = f"{where}: measure gives {inputs!r}, which is {stored!r} after it was stored: give plain JSON, no NaN"
        raise DefinitionError(message)
    again = rule.measure(evidence)
    if again != inputs:
        raise DefinitionError(f"{where}: measure gives {inputs!r}, and then {again!r} for the same evidence")
    return inputs


def _check(where: str, verdict: RuleVerdict) -> None:
    if not verdict.reason:
        raise DefinitionError(f"{where}: {verdict} has no reason: say what was measured, and the limit")
    if not math.isfinite(verdict.progress) or not 0 <= verdict.progress <= 1:
        raise DefinitionError(f"{where}: the progress of {verdict} is not from 0 to 1")
    if verdict.fired and verdict.progress < 1:
        raise DefinitionError(f"{where}: {verdict} fires below a progress of 1")
