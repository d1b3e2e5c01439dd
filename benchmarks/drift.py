"""How `drift` and `performance` judge the flights: a study of the event log that `headrace demo` leaves.

    python -m benchmarks.drift .headrace/demo/events

The yardstick is fitted on the rows before the first live day. It scores all later rows, whatever version served them.
The rule judges each day: as it was, with the days in another order, with a hundredth of the traffic at weekends, and
with 20 minutes added to all delays from 1 May. At last the yardstick is taken for a first version that nobody replaces:
once a week `performance` judges it by its own first days, and by a refit on the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.base.times import duration_us, epoch_us, utc_datetime
from headrace.event_log.event_log import EventLog
from headrace.models.row_scores import row_scores
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.runs.fit_task import describe_run
from headrace.trainers.triggers.evidence import DAY_US, Compared, Evidence, Outcomes, ServedScores, YardstickScores
from headrace.trainers.triggers.rules import drift, performance
from headrace.trainers.triggers.trigger_state import TriggerState
from trainers.delay import delay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.trainers.data.examples import Examples
    from headrace.trainers.triggers.score_drift_rule import ScoreDriftRule

LIVE_FROM = datetime(2013, 1, 27, tzinfo=UTC)
CHANGED_FROM = datetime(2013, 5, 1, tzinfo=UTC)
ADDED_MINUTES = 20
_TIMES = {"flights.arrived": "arrived_at", "flights.departed": "departed_at"}
SHUFFLES, YEAR = 20, 365
SATURDAY = 5
THURSDAY = 3  # the first day of the epoch
FEWER_FROM = datetime(2013, 4, 1, tzinfo=UTC)


class LateFlights(EventLog):
    """The log as it would be if all delays had been longer since a day."""

    def visible(self, topic: str, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the rows with longer delays."""
        found = super().visible(topic, rows)
        if topic not in _TIMES or "delay_minutes" not in found.columns:
            return found
        time = next(
            name for name in (_TIMES[topic], "__available_at") if name in found.columns
        )  # labels have the latter
        later = pl.when(pl.col(time) >= CHANGED_FROM).then(ADDED_MINUTES).otherwise(0)
        return found.with_columns(pl.col("delay_minutes") + later)


@dataclass(frozen=True)
class Flights:
    """The scores of the yardstick for all flights of the log since the first live day."""

    log: EventLog

    @cached_property
    def examples(self) -> Examples:
        """All matured rows."""
        return ExampleBuilder(delay, self.log).build(epoch_us(datetime(2014, 2, 1, tzinfo=UTC)))

    def scores(self, yardstick: Any) -> ServedScores:
        """What the yardstick says of the live days."""
        live = self.examples.requested_us >= epoch_us(LIVE_FROM)
        found = row_scores(yardstick, self.examples.frame[live].reset_index(drop=True))
        return ServedScores(self.examples.day[live], found.scores)

    def yardstick(self) -> Any:
        """Fit on the rows whose labels were known before the first live day."""
        data = self.examples
        early = data.take(data.requested_us + delay.label.spec.within_us <= epoch_us(LIVE_FROM))
        run = describe_run(delay.name, "yardstick", 1, early)
        return delay.train_function(early.frame, early.label_series(), run)


@dataclass(frozen=True)
class Judged:
    """What a rule said on each day that it could judge: the day, the PSI and its limit."""

    days: np.ndarray
    psi: np.ndarray
    limit: np.ndarray
    asked: int

    @property
    def above(self) -> np.ndarray:
        """The days above the limit."""
        return self.days[self.psi > self.limit]

    def firings(self, cooldown: int = 7) -> list[int]:
        """The days on which the rule asks, if it is quiet for a cooldown of days after each."""
        found: list[int] = []
        for day in self.above.tolist():
            if not found or day >= found[-1] + cooldown:
                found.append(day)
        return found

    def summary(self) -> dict[str, Any]:
        """The figures of a table's row."""
        return {
            "judged_days": len(self.days),
            "of_days": self.asked,
            "above": len(self.above),
            "firings": len(self.firings()),
            "a_year": round(len(self.firings()) * YEAR / max(1, len(self.days)), 2),
            "first": [str(utc_datetime(day * DAY_US).date()) for day in self.firings()][:5],
            "median_psi": round(float(np.median(self.psi)), 4) if len(self.days) else None,
            "median_limit": round(float(np.median(self.limit)), 4) if len(self.days) else None,
        }


def judged(rule: ScoreDriftRule, scores: ServedScores, first: int, last: int) -> Judged:
    """Measure the rule at the beginning of each day."""
    seen = YardstickScores(scores)
    found = [(day, rule.measure(Evidence(day * DAY_US, 0, by_yardstick=lambda: seen))) for day in range(first, last)]
    there = [(day, each) for day, each in found if each["psi"] is not None]
    return Judged(
        np.array([day for day, _ in there], np.int64),
        np.array([each["psi"] for _, each in there]),
        np.array([max(rule.psi, each["resampled"]) for _, each in there]),
        last - first,
    )


def at_weekends(scores: ServedScores, share: float, seed: int = 0) -> ServedScores:
    """A share of the rows of Saturdays and Sundays from April on, and all other rows."""
    weekend = (scores.day + THURSDAY) % 7 >= SATURDAY
    weekend &= scores.day >= epoch_us(FEWER_FROM) // DAY_US
    kept = ~weekend | (np.random.default_rng(seed).random(len(scores.day)) < share)
    return ServedScores(scores.day[kept], scores.score[kept])


def shuffled(scores: ServedScores, seed: int) -> ServedScores:
    """The same days in another order, so that nothing drifts."""
    days, index = np.unique(scores.day, return_inverse=True)
    return replace(scores, day=np.random.default_rng(seed).permutation(days)[index])


def study(url: str, rules: dict[str, ScoreDriftRule]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the figures of each rule in each scene."""
    flights = Flights(EventLog(url))
    yardstick = flights.yardstick()
    scores, late = flights.scores(yardstick), Flights(LateFlights(url)).scores(yardstick)
    yield from frozen(flights, scores)
    last = int(scores.day.max())
    for name, rule in rules.items():
        first = int(scores.day.min()) + duration_us(rule.sample) // DAY_US
        scenes = {
            "as it was": scores,
            "a hundredth at weekends": at_weekends(scores, 0.01),
            "20 minutes more from 1 May": late,
        }
        for scene, changed in scenes.items():
            yield f"{name}, {scene}", judged(rule, changed, first, last).summary()
        many = [judged(rule, shuffled(scores, seed), first, last) for seed in range(SHUFFLES)]
        days = sum(len(each.days) for each in many)
        fired = sum(len(each.firings()) for each in many)
        yield f"{name}, days shuffled", {"orders": SHUFFLES, "days": days, "a_year": round(fired * YEAR / days, 2)}


def frozen(flights: Flights, scores: ServedScores, drop: float = 0.01) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the rule says each week of a first version that stays live."""
    data = flights.examples
    live = np.flatnonzero(data.requested_us >= epoch_us(LIVE_FROM))
    refits: dict[int, Any] = {}

    def compared(until_us: int, _: str, from_day: int) -> Compared:
        rows = live[(data.day[live] >= from_day) & (data.requested_us[live] + delay.label.spec.within_us <= until_us)]
        if from_day not in refits:
            before = data.take(data.requested_us + delay.label.spec.within_us <= from_day * DAY_US)
            run = describe_run(delay.name, "refit", 1, before)
            refits[from_day] = delay.train_function(before.frame, before.label_series(), run)
        other = row_scores(refits[from_day], data.frame.iloc[rows].reset_index(drop=True)).scores
        return Compared(Outcomes(data.day[rows], scores.score[rows - live[0]], data.label[rows]), other, "a refit")

    for rule in (performance("auc", drop=drop), performance("auc", drop=drop, against="refit")):
        said = []
        for day in range(int(scores.day.min()) + 16, int(scores.day.max()), 7):
            known = data.requested_us[live] + delay.label.spec.within_us <= day * DAY_US
            own = Outcomes(data.day[live][known], scores.score[known], data.label[live][known])
            evidence = _seen(day * DAY_US, own, partial(compared, day * DAY_US))
            inputs = rule.measure(evidence)
            (verdict,) = rule.judge(TriggerState(live=True), day * DAY_US, inputs)
            said.append((day, inputs, verdict))
        there = [inputs for _, inputs, _ in said if inputs["bound"] is not None]
        yield (
            f"a frozen version against {rule.against}",
            {
                "judged": len(there),
                "of_looks": len(said),
                "fired": [str(utc_datetime(day * DAY_US).date()) for day, _, verdict in said if verdict.fired],
                "lost": [round(inputs["lost"], 4) for inputs in there if "lost" in inputs],
            },
        )


def _seen(t_us: int, outcomes: Outcomes, compared: Callable[[Any, int], Compared]) -> Evidence:
    return Evidence(t_us, 0, outcomes=lambda: outcomes, compared=compared)


def main() -> None:
    """Print the figures as lines of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("log", help="the folder of an event log that `headrace demo` has left")
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    rules = {
        "shipped": drift("score", psi=0.2, sample="14d"),
        "3 a year": drift("score", psi=0.2, sample="14d", false_alarms="3/year"),
    }
    for name, figures in study(parser.parse_args().log, rules):
        print(json.dumps({"scene": name, **figures}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
