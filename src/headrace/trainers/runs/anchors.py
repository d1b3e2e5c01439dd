"""The anchors of a gate: the first and the best version. A champion that loses a little each time is found by them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.models.model_events import Published
from headrace.trainers.runs.champion_evidence import compared_with
from headrace.trainers.runs.gate import AnchorReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.models.model_state import ModelState
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.gate import AnchorRole, GateReport
    from headrace.trainers.runs.holdout import Challenger
    from headrace.trainers.runs.kept_fits import KeptScores
    from headrace.trainers.runs.look_budget import LookCost

Anchors = list[tuple[Published, list["AnchorRole"]]]


def anchors(state: ModelState, metric: str) -> Anchors:
    """Return the first version, and the best one by the gains that the gates have measured, but not the live one.

    Versions that were retired, or never approved, do not count.
    """
    known = [
        data for data in _publications(state) if data.version not in state.retired and state.approved(data.version)
    ]
    if not known:
        return []
    levels = _levels(state, metric)
    best = max(known, key=lambda data: levels[data.version])  # of several the first
    found: dict[int, tuple[Published, list[AnchorRole]]] = {}
    roles: list[tuple[Published, AnchorRole]] = [(known[0], "first"), (best, "best")]
    for data, role in roles:
        found.setdefault(data.version, (data, []))[1].append(role)
    return [each for version, each in found.items() if version != state.version]


def _publications(state: ModelState) -> list[Published]:
    return [event.data for event in state.history if isinstance(event.data, Published)]


def _levels(state: ModelState, metric: str) -> dict[int, float]:
    """Return how good each version is: the sum of the gains from the first one on to it, each over its champion."""
    of_event = {event.id: event.data.version for event in state.history}
    levels: dict[int, float] = {}
    for data in _publications(state):
        before = levels.get(of_event.get(data.expects or "", -1), 0.0)
        levels[data.version] = before + _gain(data.gate, metric)
    return levels


def _gain(report: dict[str, Any], metric: str) -> float:
    """Return the gain that a report says in a metric; 0 if it says none, as that of a first version."""
    try:
        return float(report["metrics"][metric]["gain"])
    except (KeyError, TypeError, ValueError):
        return 0.0


def anchored(
    report: GateReport,
    roles: Iterable[tuple[KeptScores, Sequence[AnchorRole]]],
    challenger: Challenger,
    model: Model,
    seed: int,
    *,
    cost: LookCost,
) -> GateReport:
    """Return the report with the anchors' gated fits on the same rows.

    By the rule ``not_worse`` a challenger that passed is refused if it may be worse than an anchor by more than the
    margin.
    """
    found = []
    for kept, role in roles:
        if kept.left_out:
            found.append(AnchorReport(version=kept.version, roles=list(role), left_out=kept.left_out))
            continue
        each = compared_with(kept.scores, challenger, model, seed, cost, shows_all=False)
        found.append(
            AnchorReport(
                version=kept.version,
                roles=list(role),
                rows=each.rows,
                compared=each.metrics.get(each.metric, msgspec.UNSET),
                left_out=each.reason if each.verdict == "postponed" else msgspec.UNSET,
            )
        )
        if report.verdict == "passed" and model.gate.rule == "not_worse" and each.verdict == "refused":
            reason = f"against version {kept.version}, the {' and '.join(role)} one: {each.reason}"
            report = msgspec.structs.replace(report, verdict="refused", reason=reason)
    return msgspec.structs.replace(report, anchors=found) if found else report
