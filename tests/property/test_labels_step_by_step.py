"""A model's log that has followed a growing event log knows what one knows that reads it whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from headrace.base.times import utc_datetime
from headrace.event_log.columns import ACCEPTED, REJECTED
from headrace.models.manifest import TimeSpan
from headrace.trainers.data.model_log import ModelLog
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.example_budget import examples
from tests.support.memory_log import MemoryLog
from tests.support.orders_model import model, orders, returns

if TYPE_CHECKING:
    from headrace.trainers.triggers.evidence import Evidence

QUARTER_US = 6 * 3_600_000_000
KEYS, PARTITIONS, TIMES = st.sampled_from([0, 0, 1, 2]), st.integers(0, 2), st.integers(0, 16)
ACCEPTS = st.sampled_from([True] * 5 + [False])
STATUSES = st.sampled_from(['{"shop": "present"}'] * 3 + ['{"shop": "stale"}'])


class GrowingLog(RuleBasedStateMachine):
    """Rows come to any partition, a slow one's late; spans are excluded and taken back; now and then a trainer ticks.

    Times are counted in quarters of a day.
    """

    @initialize(within=st.integers(1, 8), missing=st.booleans(), last=st.booleans(), on_key=st.booleans())
    def begin(self, within: int, *, missing: bool, last: bool, on_key: bool) -> None:
        label = replace(model.label, within=f"{within * 6}h", which="last" if last else "first")
        label = replace(label, missing=False) if missing else label
        self.of = replace(model, label=label, request_key="order_id" if on_key else "shop")
        self.log = MemoryLog([orders, returns, VECTORS, PREDICTIONS])
        self.kept = ModelLog(self.of, self.log.log)
        self.clocks: dict[tuple[str, int], int] = {}
        self.excluded: list[TimeSpan] = []
        self.number = 0

    def add(self, topic: str, row: dict[str, Any], at: int, partition: int = 0, *, accepted: bool = True) -> None:
        """Append a row. Within a partition what is available later comes later."""
        clock = self.clocks[topic, partition] = max(at, self.clocks.get((topic, partition), 0))
        verdict = ACCEPTED if accepted else REJECTED
        self.log.append(topic, row, clock * QUARTER_US, partition=partition, verdict=verdict)

    @rule(key=KEYS, asked=TIMES, late=st.sampled_from([0, 0, 3]), partition=PARTITIONS, accepted=ACCEPTS)
    def ask(self, key: int, asked: int, late: int, partition: int, *, accepted: bool) -> None:
        row = {"order_id": key, "shop": str(key), "amount": 1.0, "ordered_at": utc_datetime(asked * QUARTER_US)}
        self.add(orders.topic, row, asked + late, partition, accepted=accepted)

    @rule(key=KEYS, at=TIMES, back=st.sampled_from([True, False, None]), partition=PARTITIONS, accepted=ACCEPTS)
    def label(self, key: int, at: int, back: bool | None, partition: int, *, accepted: bool) -> None:
        row = {"order_id": key, "back": back, "known_at": utc_datetime(at * QUARTER_US)}
        self.add(returns.topic, row, at, partition, accepted=accepted)

    @rule(key=KEYS, at=TIMES, version=st.integers(1, 2), role=st.sampled_from(["live", "shadow"]), statuses=STATUSES)
    def predict(self, key: int, at: int, version: int, role: str, statuses: str) -> None:
        self.number += 1
        name = str(self.number)
        served = {
            "vector_id": name, "model": model.name, "key": str(key), "requested_at": utc_datetime(at * QUARTER_US),
            "served_at": utc_datetime(at * QUARTER_US),
        }  # fmt: skip
        vector = {"service": "s", "values": [1.0], "statuses": statuses, "offsets": "{}", "request": "{}"}
        answer = {"prediction_id": name, "version": version, "role": role, "score": float(self.number)}
        self.add(PREDICTIONS.topic, {**served, **answer, "acted": False, "control": False}, at)
        self.add(VECTORS.topic, {**served, **vector, "record": None}, at)

    @rule(low=TIMES, length=st.integers(1, 4))
    def exclude(self, low: int, length: int) -> None:
        span = TimeSpan(from_us=low * QUARTER_US, to_us=(low + length) * QUARTER_US, reason="x")
        self.excluded = [*self.excluded, span]

    @rule()
    def include(self) -> None:
        self.excluded = self.excluded[1:]

    @rule(t=TIMES, version=st.sampled_from([None, 1, 2]))
    def tick(self, t: int, version: int | None) -> None:
        t_us = t * QUARTER_US
        fresh = ModelLog(self.of, self.log.log)
        assert said(self.kept.evidence(t_us, version, self.excluded), t_us) == said(
            fresh.evidence(t_us, version, self.excluded), t_us
        )
        assert self.kept.labelled(t_us, excluded=self.excluded).equals(fresh.labelled(t_us, excluded=self.excluded))
        assert self.kept.spine(t_us, excluded=self.excluded).equals(fresh.spine(t_us, excluded=self.excluded))
        assert self.kept.outcomes(t_us, 2).equals(fresh.outcomes(t_us, 2))


def said(found: Evidence, t_us: int) -> list[Any]:
    """All that a rule can ask."""
    scores, outcomes = found.scores(), found.outcomes()
    return [
        found.matured_labels,
        msgspec.to_builtins(list(found.waiting)),
        [found.still_counted(99, then_us) for then_us in (0, t_us // 2, t_us)],
        [scores.day.tolist(), scores.score.tolist()],
        [outcomes.day.tolist(), outcomes.score.tolist(), outcomes.label.tolist()],
    ]


GrowingLog.TestCase.settings = settings(deadline=None, max_examples=examples(20), stateful_step_count=30)
TestGrowingLog = GrowingLog.TestCase
