"""Labels, counts and outcomes of a model are those of a plain loop over its requests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.base.times import utc_datetime
from headrace.event_log.columns import ACCEPTED, REJECTED
from headrace.models.manifest import TimeSpan
from headrace.trainers.data.model_log import ModelLog
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.example_budget import examples
from tests.support.memory_log import MemoryLog
from tests.support.orders_model import model, orders, returns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.trainers.definitions import Model

HOUR_US = 3_600_000_000
NO_TIME = -1


@dataclass(frozen=True)
class Asked:
    """A request: the hour that it is of, and the hour at which it was available."""

    key: int
    at: int
    available: int
    partition: int
    accepted: bool


@dataclass(frozen=True)
class Answered:
    """A label that became known."""

    key: int
    at: int
    value: bool | None
    partition: int
    accepted: bool


@dataclass(frozen=True)
class Scored:
    """A prediction. ``requested`` is the hour that the application gave as that of the request."""

    key: int
    requested: int
    at: int
    version: int
    role: str


HOURS = st.integers(0, 7)
KEYS = st.sampled_from([0, 0, 1])
PARTITIONS = st.integers(0, 1)
ACCEPTS = st.sampled_from([True] * 5 + [False])
REQUESTS = st.lists(st.builds(Asked, KEYS, HOURS, HOURS, PARTITIONS, ACCEPTS), min_size=2, max_size=8)
LABELS = st.lists(
    st.builds(Answered, KEYS, HOURS, st.sampled_from([True, False, None]), PARTITIONS, ACCEPTS), min_size=3, max_size=14
)
SCORES = st.lists(
    st.builds(Scored, KEYS, HOURS, HOURS, st.integers(1, 2), st.sampled_from(["live", "shadow"])),
    min_size=2,
    max_size=10,
)


def span(low: int, high: int) -> TimeSpan:
    return TimeSpan(from_us=low * HOUR_US, to_us=high * HOUR_US, reason="x")


SPANS = st.sampled_from([[], [], [span(2, 3)], [span(0, 1), span(4, 6)]])


@st.composite
def models(draw: st.DrawFn) -> Model:
    """The first or the last label counts, and a missing one may be false."""
    label = replace(model.label, within=f"{draw(st.integers(1, 5))}h")
    label = replace(label, missing=False) if draw(st.booleans()) else label
    return replace(model, label=replace(label, which="last") if draw(st.booleans()) else label)


class Naive:
    """The same as loops, slow and plain."""

    def __init__(self, scene: Scene) -> None:
        requests, labels, t = scene.requests, scene.labels, scene.t
        self.within = scene.of.label.spec.within_us // HOUR_US
        self.which, self.missing = scene.of.label.which, scene.of.label.missing
        self.t = t
        numbered = sorted(enumerate(requests), key=lambda each: (each[1].available, each[1].partition, each[0]))
        self.known = [each for _, each in numbered if each.accepted and each.available <= t]
        self.labels = [
            each
            for _, each in sorted(enumerate(labels), key=lambda each: (each[1].at, each[1].partition, each[0]))
            if each.accepted
        ]
        clocks: dict[int, int] = {}
        for each in labels:
            clocks[each.partition] = max(each.at, clocks.get(each.partition, NO_TIME))
        self.clock = min(clocks.values(), default=NO_TIME)
        self.spans = [(span.from_us // HOUR_US, span.to_us // HOUR_US) for span in scene.excluded]

    def of_request(self, request: Asked) -> tuple[bool | None, int | None]:
        """The label and how many were counted."""
        counted = []
        for label in self.labels:
            in_time = request.at < label.at <= request.at + self.within
            if label.key == request.key and in_time and label.value is not None:
                counted.append(label.value)
        if self.missing is False and request.at + self.within >= self.clock:
            return None, None
        if not counted:
            return (None, None) if self.missing is None else (False, 0)
        return (counted[0], 1) if self.which == "first" else (counted[-1], len(counted))

    def labelled(self) -> list[tuple[int, int, bool | None, int | None]]:
        """Each matured request with its label."""
        return [
            (each.key, each.at, *self.of_request(each))
            for each in self.known
            if each.at + self.within <= self.t and not any(low <= each.at < high for low, high in self.spans)
        ]

    def score(self, key: int, at: int, scores: Sequence[tuple[int, Scored]]) -> int | None:
        """The number of the prediction that answers a request: its own, or any if the key was requested once."""
        mine = [(number, each) for number, each in scores if each.key == key]
        for number, each in mine:
            if each.requested == at:
                return number
        once = sum(each.key == key for each in self.known) == 1
        return mine[0][0] if once and mine else None

    def outcomes(self, scores: Sequence[Scored], version: int, role: str | None) -> list[tuple[int, int, int, bool]]:
        """Each labelled request with its score."""
        in_order: list[tuple[int, Scored]] = []
        seen: set[tuple[int, int, int]] = set()
        for number, each in sorted(enumerate(scores), key=lambda each: (each[1].at, each[0])):
            request = each.key, each.requested, each.version
            if request not in seen and each.version == version and role in {None, each.role}:
                in_order.append((number, each))
            seen.add(request)
        found = []
        for key, at, label, _ in self.labelled():
            answered = self.score(key, at, in_order)
            if answered is not None and label is not None:
                found.append((at, key, answered, label))
        return sorted(found)


def hours(at: int) -> int:
    return at * HOUR_US


def log_of(scene: Scene) -> MemoryLog:
    log = MemoryLog([orders, returns, VECTORS, PREDICTIONS])
    for each in scene.requests:
        row = {"order_id": each.key, "shop": "s", "amount": 1.0, "ordered_at": utc_datetime(hours(each.at))}
        verdict = ACCEPTED if each.accepted else REJECTED
        log.append(orders.topic, row, hours(each.available), partition=each.partition, verdict=verdict)
    for label in scene.labels:
        row = {"order_id": label.key, "back": label.value, "known_at": utc_datetime(hours(label.at))}
        verdict = ACCEPTED if label.accepted else REJECTED
        log.append(returns.topic, row, hours(label.at), partition=label.partition, verdict=verdict)
    for number, score in enumerate(scene.scores):
        log.append(PREDICTIONS.topic, prediction(number, score), hours(score.at))
    return log


def prediction(number: int, each: Scored) -> dict[str, Any]:
    """Its score is its number."""
    return {
        "prediction_id": str(number), "vector_id": str(number), "model": model.name, "version": each.version,
        "role": each.role, "key": str(each.key), "requested_at": utc_datetime(hours(each.requested)),
        "served_at": utc_datetime(hours(each.at)), "score": float(number), "acted": False, "control": False,
    }  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """All that there is of a model at a time."""

    of: Model
    requests: list[Asked]
    labels: list[Answered]
    scores: list[Scored]
    excluded: list[TimeSpan]
    t: int


SCENES = st.builds(Scene, models(), REQUESTS, LABELS, SCORES, SPANS, st.sampled_from([3, 6, 8, 12, 20]))


@settings(deadline=None, max_examples=examples(60))
@given(SCENES)
def test_labels_counts_and_outcomes_are_those_of_a_loop_over_the_requests(scene: Scene) -> None:
    naive, own = Naive(scene), ModelLog(scene.of, log_of(scene).log)
    found = own.labelled(hours(scene.t), excluded=scene.excluded)
    rows = found.select("order_id", "__requested_us", "__label", "__revision").rows()
    assert [(key, at // HOUR_US, label, revision) for key, at, label, revision in rows] == naive.labelled()
    wanted = sum(label is not None for _, _, label, _ in naive.labelled())
    assert own.matured_labels(hours(scene.t), scene.excluded) == wanted
    evidence = own.evidence(hours(scene.t), None, scene.excluded)
    earlier = Naive(replace(scene, t=scene.t // 2)).labelled()
    then = sum(label is not None for _, _, label, _ in earlier)
    assert [evidence.still_counted(count, hours(scene.t // 2)) for count in (0, 99)] == [0, then]
    for version, role in ((1, "live"), (2, None)):
        outcomes = own.outcomes(hours(scene.t), version, role, excluded=scene.excluded)
        got = outcomes.select("__requested_us", "key", "score", "__label").rows()
        found_outcomes = [(at // HOUR_US, int(key), int(score), label) for at, key, score, label in got]
        assert found_outcomes == naive.outcomes(scene.scores, version, role)
