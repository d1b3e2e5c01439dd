"""Models of every task: 60 days of parcels, each delivered after some hours, in an event log without servers."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.linear_model import LinearRegression, LogisticRegression, QuantileRegressor

from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.model_event_log import MemoryModelEventLog, events
from headrace.models.model_state import fold
from headrace.models.predictions import Prediction, logged_fields
from headrace.models.registry import MemoryRegistry
from headrace.models.row_scores import row_scores
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.definitions import Gate, Label, Model, volume
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.messages import RetrainRequest
from headrace.trainers.runs.training_runner import TrainingRunner
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import day, write

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.model_events import Published
    from headrace.trainers.runs.messages import RunEnded
    from headrace.trainers.train_function import TrainFunction

DAYS, A_DAY, LIVE_FROM = 60, 150, 30
QUANTILES = [0.1, 0.5, 0.9]
CLASSES = ["quick", "usual", "slow"]


class Parcel(Event):
    """A request: the models predict how long the parcel takes."""

    parcel_id: int
    depot: str
    weight: float
    sent_at: datetime


class Delivery(Event):
    """When it came."""

    parcel_id: int
    hours: float
    grade: str
    delivered_at: datetime


parcels = Stream("parcels", Parcel, event_time="sent_at")
deliveries = Stream("deliveries", Delivery, event_time="delivered_at")
depot = FeatureView("depot", entity=Entity("depot"), source=parcels, windows=["1d"], features={"parcels": Count()})


def fit_number(X: Any, y: Any, run: Any) -> LinearRegression:  # noqa: N803 - scikit-learn's names
    """Fit the mean."""
    del run
    return LinearRegression().fit(X, y)


def fit_classes(X: Any, y: Any, run: Any) -> LogisticRegression:  # noqa: N803
    """Fit the classes, whose values are texts."""
    assert set(y) == set(CLASSES)
    return LogisticRegression(random_state=run.seed, max_iter=1_000).fit(X, y)


def fit_quantiles(X: Any, y: Any, run: Any) -> list[QuantileRegressor]:  # noqa: N803
    """Fit one estimator for each quantile, on a sample."""
    rows = np.random.default_rng(run.seed).permutation(len(X))[:600]
    return [QuantileRegressor(quantile=level, alpha=0.0).fit(X.iloc[rows], y.iloc[rows]) for level in QUANTILES]


def model_of(label: dict[str, Any], train: TrainFunction, gate: Gate | None = None) -> Model:
    """A model with this label of a delivery."""
    return Model(
        "parcels",
        requests=parcels,
        request_key="parcel_id",
        requested_at="sent_at",
        features=FeatureService("depots", [depot]),
        request_features=["weight"],
        label=Label(deliveries, on="parcel_id", within="1d", **label),
        train=train,
        first_after=2_000,
        triggers=volume(labels=2_000),
        gate=gate or Gate(),
        own_event="excluded",
    )


HOURS = model_of({"value": col("hours")}, fit_number)
GRADES = model_of({"value": col("grade"), "classes": CLASSES}, fit_classes)
PARTED = model_of({"value": col("hours"), "classes": CLASSES, "limits": [9.0, 11.0]}, fit_classes)
RANGES = model_of({"value": col("hours"), "quantiles": QUANTILES}, fit_quantiles)


@cache
def made() -> tuple[list[Parcel], list[Delivery]]:
    """The heavier the parcel, the longer it takes: ten hours and one for each kilogram above the mean."""
    rng = np.random.default_rng(7)
    sent: list[Parcel] = []
    came: list[Delivery] = []
    for number in range(DAYS):
        for offset in np.sort(rng.integers(0, DAY_US // 1_000, A_DAY)).tolist():
            at, weight = day(number) + offset * 1_000, float(rng.normal())
            sent.append(Parcel(len(sent), f"depot-{rng.integers(5)}", weight, utc_datetime(at)))
            hours = float(np.clip(10 + weight + rng.normal(), 1, 20))
            grade = CLASSES[int(hours > 9) + int(hours > 11)]
            came.append(Delivery(len(came), hours, grade, utc_datetime(at + int(hours * 3_600_000_000))))
    return sent, came


@dataclass
class Parcels:
    """The parcels and their deliveries in an event log, and a trainer of one of the models."""

    folder: Path
    model: Model

    def __post_init__(self) -> None:
        self.log = EventLog(self.folder / "log")
        self.model_events = MemoryModelEventLog()
        self.registry = MemoryRegistry(self.folder / "registry")
        write(self.log, parcels, made()[0])
        write(self.log, deliveries, made()[1])
        for stream in (VECTORS, PREDICTIONS):
            self.log.create(stream)

    def again(self, model: Model) -> Parcels:
        """The same scene for a model with another gate; what is published there is not seen here."""
        other = copy(self)
        other.model, other.model_events = model, MemoryModelEventLog()
        for event in events(self.model_events.read(), "parcels"):
            other.model_events.append(event)
        return other

    def run(self, name: str, t_us: int) -> RunEnded:
        """Ask for a run, and return its end."""
        request = RetrainRequest(
            request_id=f"parcels-{name}", model="parcels", rule="volume", reason=name, t_us=t_us, matured_labels=3_000
        )
        runner = TrainingRunner(self.model, self.log, self.model_events, self.registry, InlineFits())
        return runner.run(request)

    def published(self) -> Published:
        """The publication of the live version."""
        live = fold(events(self.model_events.read(), "parcels")).published_live
        assert live is not None
        return live

    def estimator(self) -> Any:
        """The live version's estimator, as an application loads it."""
        data = ArtifactPlaces([self.folder]).read(self.published().artifact.uri)
        return artifact.load(data, ())

    def serve(self, *, knows_nothing: bool = False) -> np.ndarray:
        """Log what the live version answers from day 30 on, or the same answer to all; return the predictions."""
        data, task = ExampleBuilder(self.model, self.log).build(day(DAYS + 2)), self.published().predicts
        found = row_scores(self.estimator(), data.frame, task)
        assert not found.errors
        scores = np.broadcast_to(found.scores.mean(axis=0), found.scores.shape) if knows_nothing else found.scores
        live = np.flatnonzero(data.requested_us >= day(LIVE_FROM))
        write(self.log, PREDICTIONS, [self._prediction(data.key[row], scores[row]) for row in live])
        return scores[live]

    def _prediction(self, key: str, prediction: Any) -> Prediction:
        at = made()[0][int(key)].sent_at
        version, task = self.published().version, self.published().predicts
        return Prediction(
            prediction_id=f"{key}-{version}", vector_id=key, model="parcels", version=version, role="live", key=key,
            requested_at=at, served_at=at, **logged_fields(prediction, task),
        )  # fmt: skip
