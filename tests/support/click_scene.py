"""A click stream by the hour: a model learns, serves and is judged in ten-minute steps, without servers.

Whether an impression is clicked depends on how well it matches. From the planted change on, it depends the other way
round.
"""

from __future__ import annotations

import warnings
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.models import artifact
from headrace.models.model_event_log import MemoryModelEventLog, events
from headrace.models.model_state import fold
from headrace.models.predictions import Prediction
from headrace.models.registry import MemoryRegistry
from headrace.models.row_scores import row_scores
from headrace.trainers.definitions import Gate, Label, Model, volume
from headrace.trainers.model_spec import Floors
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.messages import RetrainRequest, RunEnded, decode
from headrace.trainers.runs.training_runner import RunOptions, TrainingRunner
from tests.support.control_topics import PREDICTIONS, RETRAIN_REQUESTS, VECTORS
from tests.support.orders_model import write

if TYPE_CHECKING:
    from pathlib import Path

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
STEP_US, A_MINUTE = 10 * MINUTE_US, 30
START_US = 20_000 * 24 * HOUR_US
HALF_LIFE = 300


class Impression(Event):
    """A request: will it be clicked?"""

    impression_id: int
    page: str
    match: float
    shown_at: datetime


class Click(Event):
    """What a person did with an impression."""

    impression_id: int
    button: str
    clicked_at: datetime


impressions = Stream("impressions", Impression, event_time="shown_at")
clicks = Stream("clicks", Click, event_time="clicked_at")
page = FeatureView("page", entity=Entity("page"), source=impressions, windows=["1h"], features={"shown": Count()})


def train(X: pd.DataFrame, y: pd.Series, run: Any) -> LogisticRegression:  # noqa: N803 - what everyone calls it
    """Fit on all rows. A row weighs half as much as one that came 300 rows later."""
    del run
    age = np.arange(len(X))[::-1]
    return LogisticRegression().fit(X, y, sample_weight=0.5 ** (age / HALF_LIFE))


def clicks_model(**changes: Any) -> Model:
    """The model, with a gate of five hours."""
    with warnings.catch_warnings(action="ignore"):  # fewer blocks than the error rates were measured for
        gate = Gate("auc", block="1h", holdout="5h", floors=Floors(blocks=5))
    made = Model(
        "clicks",
        requests=impressions,
        request_key="impression_id",
        requested_at="shown_at",
        features=FeatureService("pages", [page]),
        request_features=["match"],
        label=Label(clicks, value=col("button") == "left", on="impression_id", within="10m", missing=False),
        train=train,
        first_after=10_000,
        cooldown="20m",
        triggers=volume(labels=900),
        gate=gate,
        own_event="excluded",
    )
    return replace(made, **changes)


@dataclass
class ClickScene:
    """What happens, what is served, and what trainers do with it. ``change_us`` is when the planted change comes."""

    folder: Path
    change_us: int
    model: Model = field(default_factory=clicks_model)

    def __post_init__(self) -> None:
        self.now_us = START_US
        self.log = EventLog(self.folder / "log")
        for stream in (VECTORS, PREDICTIONS):
            self.log.create(stream)
        self.model_events = MemoryModelEventLog()
        self.registry = MemoryRegistry(self.folder / "registry")
        self.ends: list[RunEnded] = []
        self._rng, self._ids = np.random.default_rng(3), count()
        self._shown: dict[str, list[int]] = {}
        self._pending: list[Click] = []
        self._asked: list[RetrainRequest] = []
        self._consumer = TriggerConsumer([self.model], self.log, self.model_events, self._send)
        options = RunOptions(ended=lambda: self.ends)
        self._runner = TrainingRunner(
            self.model, self.log, self.model_events, self.registry, InlineFits(), options=options
        )

    def _send(self, topic: str, _key: bytes, value: bytes) -> None:
        if topic == RETRAIN_REQUESTS:
            self._asked.append(decode(value, RetrainRequest))

    def play(self, until_us: int) -> None:
        """Go on in steps of ten minutes: impressions, predictions, clicks, triggers, and the run that is asked for."""
        while self.now_us < until_us:
            self._show(self.now_us + STEP_US)
            self.now_us += STEP_US
            self._consumer.tick(self.now_us)
            while self._asked:
                self.ends.append(self._runner.run(self._asked.pop(0)))
                self._consumer.run_ended(self.ends[-1])

    def _show(self, until_us: int) -> None:
        """What happens in a step. A click comes up to eight minutes after its impression."""
        number = A_MINUTE * STEP_US // MINUTE_US
        times = np.sort(self._rng.integers(self.now_us // 1_000, until_us // 1_000, number)) * 1_000
        match = self._rng.normal(size=number)
        pages = [f"page-{each}" for each in self._rng.integers(5, size=number)]
        shown = [
            Impression(next(self._ids), name, value, utc_datetime(at))
            for name, value, at in zip(pages, match.tolist(), times.tolist(), strict=True)
        ]
        way = np.where(times < self.change_us, 1.5, -1.5)
        is_clicked = self._rng.random(number) < 1 / (1 + np.exp(1 - way * match))
        delay = self._rng.integers(1, 8 * MINUTE_US // 1_000, number) * 1_000
        self._pending += [
            Click(each.impression_id, "left", utc_datetime(at + later))
            for each, at, later, was in zip(shown, times.tolist(), delay.tolist(), is_clicked, strict=True)
            if was
        ]
        self._pending.sort(key=lambda click: click.clicked_at)
        come = [click for click in self._pending if epoch_us(click.clicked_at) < until_us]
        self._pending = self._pending[len(come) :]
        write(self.log, impressions, shown)
        write(self.log, clicks, come)
        self._serve(shown)

    def _serve(self, shown: list[Impression]) -> None:
        """The live version answers, with the number of the page's impressions in the hour before."""
        counts = []
        for each in shown:
            at, before = epoch_us(each.shown_at), self._shown.setdefault(each.page, [])
            counts.append(len(before) - bisect_right(before, at - HOUR_US))
            before.append(at)
        live = fold(events(self.model_events.read(), self.model.name)).published_live
        if live is None:
            return
        estimator = artifact.load(artifact.fetch(live.artifact.uri), ())
        frame = pd.DataFrame({"page__shown_1h": counts, "match": [each.match for each in shown]}).astype(float)
        scores = row_scores(estimator, frame).scores.tolist()
        write(self.log, PREDICTIONS, [
            Prediction(
                prediction_id=str(each.impression_id), vector_id=str(each.impression_id), model=self.model.name,
                version=live.version, role="live", key=str(each.impression_id), requested_at=each.shown_at,
                served_at=each.shown_at, score=score,
            )
            for each, score in zip(shown, scores, strict=True)
        ])  # fmt: skip

    def published(self) -> list[RunEnded]:
        """The runs that published a version."""
        return [end for end in self.ends if end.outcome == "published"]


def hours(number: float) -> int:
    """A time of the scene in microseconds."""
    return START_US + int(number * HOUR_US)
