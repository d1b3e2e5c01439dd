"""Which decisions are written: those that say something new, and one an hour that says nothing new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from headrace.trainers.triggers.waiting_labels import of_inputs
from headrace.trainers.triggers.watched_inputs import marks_of

if TYPE_CHECKING:
    from headrace.trainers.runs.messages import DecisionRecord

EVERY_US = 3_600_000_000
"""A decision that says nothing new is written so long after the last one, on the clock of the decisions."""
_STEPS = 20


class DecisionChanges:
    """The last written record of each model."""

    def __init__(self) -> None:
        self._written: dict[str, tuple[int, Any]] = {}

    def wanted(self, record: DecisionRecord) -> bool:
        """Return whether a record has to be written: it says something new, or the last one is an hour old."""
        t_us, said = self._written.get(record.model, (0, None))
        if record.operator is not UNSET or record.watched is not UNSET:
            return True
        return said is None or record.t_us >= t_us + EVERY_US or said != _said(record)

    def written(self, record: DecisionRecord) -> None:
        """Called with each record that was written."""
        self._written[record.model] = (record.t_us, _said(record))


def _said(record: DecisionRecord) -> Any:
    """The content of a record without the numbers that change at each tick: progress counts in steps of a twentieth."""
    if record.decision is None:
        return record.kind, record.reason, record.state
    decision = record.decision
    rules = [(each.rule, each.fired, each.armed, int(each.progress * _STEPS)) for each in decision.verdicts]
    waiting = [(each.topic, each.partition) for each in of_inputs(decision.inputs)]
    marks = [(each.input, each.what) for each in marks_of(decision.inputs)]
    return record.kind, decision.rule, decision.fired, decision.request, rules, waiting, marks, decision.after
