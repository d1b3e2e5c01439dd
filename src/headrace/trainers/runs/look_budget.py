"""What a look at the holdout may cost: the chance of a false pass that a gate spends on it.

A gate that looks often is wrong more often. One with a budget for a period gives each look a share as large as the part
of the period since the look before. The shares of a period add up to the budget, however many looks there are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.base.times import duration_us
from headrace.trainers.metrics.serial_correlation import NOTHING_KNOWN, KnownCorrelation
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.trainers.gate_definition import Gate
    from headrace.trainers.runs.holdout_span import HoldoutSpan
    from headrace.trainers.runs.messages import RunEnded

DAYS_A_YEAR = 365
_DAYS = {"quarter": DAYS_A_YEAR / 4, "year": DAYS_A_YEAR}


@dataclass(frozen=True)
class LookCost:
    """The chance ``alpha`` that this look passes a challenger that is no better, ``days`` after the look before.

    ``known`` is what the looks before have measured of the correlation between blocks.
    """

    alpha: float
    days: float
    known: KnownCorrelation = NOTHING_KNOWN

    @property
    def false_pass_a_year(self) -> float:
        """The chance of at least one false pass in a year of such looks. 0 days: of this look."""
        return float(1 - (1 - self.alpha) ** (DAYS_A_YEAR / self.days)) if self.days else self.alpha


def look_cost(gate: Gate, last_day: float, earlier: Sequence[tuple[float, float]]) -> LookCost:
    """Return the cost of a look at a holdout that ends before ``last_day``, which may be a part of a day.

    ``earlier`` are the holdouts that were looked at, each as the days [first, last). Before there is one, the holdout's
    length counts as the time since it. If one of them ends as late or later, what these days may cost is spent.
    """
    before = [last for _, last in earlier]
    days = max(last_day - max(before), 0) if before else duration_us(gate.holdout) / DAY_US
    share = 1.0 if gate.per == "look" else min(days / _DAYS[gate.per], 1.0)
    return LookCost(gate.alpha * share, days)


def cost_of(gate: Gate, span: HoldoutSpan, earlier: Iterable[HoldoutSpan]) -> LookCost:
    """Return the cost of a look at the holdout ``span``, after looks at the ``earlier`` ones: :func:`look_cost`."""
    return look_cost(gate, span.to_us / DAY_US, [(each.from_us / DAY_US, each.to_us / DAY_US) for each in earlier])


def looks_before(ends: Iterable[RunEnded], model: str, request_id: str) -> list[HoldoutSpan]:
    """Return the holdouts that the model's runs have looked at, one for each request but ``request_id`` itself.

    A request that was answered twice has looked once. The run's own look is not one before it: it is taken again, after
    an outage for example, and pays once.
    """
    found = {end.request_id: end.holdout for end in ends if end.model == model}
    return [span for request, span in found.items() if span is not None and request != request_id]
