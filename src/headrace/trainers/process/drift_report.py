"""Says on the bus which watched inputs of a model are out of range."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.bus.check_report import CheckFinding, CheckReport, bounded

if TYPE_CHECKING:
    from headrace.trainers.runs.messages import DecisionRecord
    from headrace.trainers.triggers.watched_inputs import WatchedInput

DRIFT = "drift"
_ADVICE = "look at what produces it; `headrace triggers explain` has all watched inputs"


def drift_report(record: DecisionRecord, *, by: str, at_us: int) -> CheckReport | None:
    """Return the report of the watched inputs that a decision record has; None if it has none.

    ``by`` is the trainer, ``at_us`` its clock. An input of which too few days are known is not judged.
    """
    if record.watched is UNSET or not record.watched.inputs:
        return None
    inputs = record.watched.inputs
    judged = [each for each in inputs if each.lacking is None]
    out = [each for each in judged if each.out]
    return CheckReport(
        check=DRIFT,
        subject=record.model,
        at_us=at_us,
        by=by,
        numbers={"watched": float(len(inputs)), "judged": float(len(judged)), "out_of_range": float(len(out))},
        findings=bounded(map(_finding, out)),
    )


def _finding(out: WatchedInput) -> CheckFinding:
    return CheckFinding(out.input, "warning", out.reason, _ADVICE)
