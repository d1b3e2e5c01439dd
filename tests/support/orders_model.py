"""A model whose data is at hand: 60 days of orders with their labels in an event log, and what was served of them."""

from __future__ import annotations

import atexit
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from headrace.base.times import utc_datetime
from headrace.bus.event import Event, encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.models.model_event_log import MemoryModelEventLog, events
from headrace.models.model_state import fold
from headrace.models.predictions import Prediction, ServedVector
from headrace.models.registry import MemoryRegistry
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.trainers.definitions import Gate, Label, Model, volume
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.messages import RetrainRequest
from headrace.trainers.runs.training_runner import TrainingRunner
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.control_topics import PREDICTIONS, VECTORS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.models.model_event_log import ModelEventLog
    from headrace.models.model_state import ModelState
    from headrace.trainers.runs.fitting import Fits

DAYS, A_DAY, LIVE_FROM = 60, 150, 30
START_US = 20_000 * DAY_US
SOURCE = SourcePartition(0, bytes([7]) * 16)


class Order(Event):
    """A request: the model predicts whether the order is returned."""

    order_id: int
    shop: str
    amount: float
    ordered_at: datetime


class Return(Event):
    """Whether it came back."""

    order_id: int
    back: bool
    known_at: datetime


orders = Stream("orders", Order, event_time="ordered_at")
returns = Stream("returns", Return, event_time="known_at")
shop = FeatureView("shop", entity=Entity("shop"), source=orders, windows=["1d"], features={"orders": Count()})


def fit(X: Any, y: Any, run: Any) -> LogisticRegression:  # noqa: N803 - what everyone calls it
    """Fit on a sample, drawn with the run's seed, of everything given."""
    drawn = np.random.default_rng(run.seed).integers(len(X), size=len(X))
    return LogisticRegression().fit(X.iloc[drawn], y.iloc[drawn])


model = Model(
    "returns",
    requests=orders,
    request_key="order_id",
    requested_at="ordered_at",
    features=FeatureService("shops", [shop]),
    request_features=["amount"],
    label=Label(returns, value=col("back"), on="order_id", within="1d"),
    train=fit,
    first_after=2_000,
    triggers=volume(labels=2_000),
    gate=Gate("auc", holdout="14d"),
    own_event="excluded",
)


TOML = 'event_log = "log"\n[project]\nstreams = ["tests.support.orders_model"]\nfeatures = []\ntrainers = []\n'
"""The `headrace.toml` of a project that has this model."""


def day(number: float) -> int:
    """The time at which a day of the scene begins, in microseconds."""
    return START_US + int(number * DAY_US)


@cache
def made() -> tuple[list[Order], list[Return]]:
    """The dearer the order, the likelier its return."""
    rng = np.random.default_rng(11)
    bought: list[Order] = []
    back: list[Return] = []
    for number in range(DAYS):
        for offset in np.sort(rng.integers(0, DAY_US // 1_000, A_DAY)).tolist():
            at, amount = day(number) + offset * 1_000, float(rng.normal())
            bought.append(Order(len(bought), f"shop-{rng.integers(5)}", amount, utc_datetime(at)))
            risk = 1 / (1 + np.exp(-1.5 * amount))
            back.append(Return(len(back), bool(rng.random() < risk), utc_datetime(at + DAY_US // 2)))
    return bought, back


def write(log: EventLog, stream: Stream, rows: Sequence[Event], source: SourcePartition = SOURCE) -> None:
    """Append events to the log, each available at its own time."""
    append(log, stream, judged(stream, rows, source), source)


def append(log: EventLog, stream: Stream, frame: pl.DataFrame, source: SourcePartition = SOURCE) -> None:
    """Append rows behind those of the log."""
    writer = LogWriter(log, stream)
    position = writer.position(source)
    first = position or 0
    behind = frame.with_columns(pl.col("__offset") + first)
    writer.append(behind, {source: position}, {source: first + frame.height})


def judged(stream: Stream, rows: Sequence[Event], source: SourcePartition = SOURCE) -> pl.DataFrame:
    """Return events as rows of the log, from offset 0 on."""
    times = [int(getattr(row, stream.event_time).timestamp() * 1e6) for row in rows]
    records = PartitionRecords(np.arange(len(rows)), np.array(times), [None] * len(rows), [encode(r) for r in rows])
    return RecordJudge(stream).rows(source.topic_id, source.partition, records, NO_CLOCK)


@cache
def opened(closed_on: int | None) -> tuple[list[Order], list[Return], Path]:
    """The orders and returns of the days that are not closed, and a log with them, made once: each shop copies it."""
    bought, back = made()
    numbers = [number for number, order in enumerate(bought) if _weekday(order) != closed_on]
    orders_, returns_ = [bought[number] for number in numbers], [back[number] for number in numbers]
    folder = Path(mkdtemp(prefix="headrace-shop-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    log = EventLog(folder / "log")
    write(log, orders, orders_)
    write(log, returns, returns_)
    for stream in (VECTORS, PREDICTIONS):
        log.create(stream)
    return orders_, returns_, folder / "log"


@cache
def served(closed_on: int | None, version: int, until: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The vectors and the predictions that are logged for the orders which a version answers."""
    bought, _, _ = opened(closed_on)
    chosen = [o for o in bought if day(LIVE_FROM) <= int(o.ordered_at.timestamp() * 1e6) < day(until)]
    vectors = judged(VECTORS, [vector(order, 3.0) for order in chosen])
    return vectors, judged(PREDICTIONS, predictions(chosen, version, seed=version))


def vector(order: Order, served: float) -> ServedVector:
    """A vector as an application logs it; the feature's value says that it was served."""
    return ServedVector(
        vector_id=str(order.order_id),
        model=model.name,
        key=str(order.order_id),
        requested_at=order.ordered_at,
        served_at=order.ordered_at,
        service=model.features.version,
        values=[served],
        statuses='{"shop":"present"}',
        offsets='{"shop":{}}',
        request="{}",
    )


def predictions(orders_: Sequence[Order], version: int, *, seed: int) -> list[Prediction]:
    """Answers of a version that knows little."""
    noise = np.random.default_rng(seed).normal(size=len(orders_))
    scores = [float(1 / (1 + np.exp(-0.1 * order.amount - each))) for order, each in zip(orders_, noise, strict=True)]
    return [answer(order, version, score) for order, score in zip(orders_, scores, strict=True)]


def answer(order: Order, version: int, score: float, *, of: str = model.name) -> Prediction:
    """The live answer of a version of the model ``of`` to an order."""
    return Prediction(
        prediction_id=f"{order.order_id}-{version}" if of == model.name else f"{of}-{order.order_id}-{version}",
        vector_id=str(order.order_id),
        model=of,
        version=version,
        role="live",
        key=str(order.order_id),
        requested_at=order.ordered_at,
        served_at=order.ordered_at,
        score=score,
    )


def request(name: str, t_us: int) -> RetrainRequest:
    """Asks for a run."""
    return RetrainRequest(
        request_id=f"returns-{name}", model=model.name, rule="volume", reason=name, t_us=t_us, matured_labels=3_000
    )


def _weekday(order: Order) -> int:
    return (int(order.ordered_at.timestamp() * 1e6) - START_US) // DAY_US % 7


@dataclass
class Shop:
    """The data, an event log of it, and what a trainer writes to. ``closed_on`` is a day of the week without orders."""

    folder: Path
    model_events: ModelEventLog = field(default_factory=MemoryModelEventLog)
    pool: Fits = field(default_factory=InlineFits)
    closed_on: int | None = None

    def __post_init__(self) -> None:
        bought, back, log = opened(self.closed_on)
        self.orders, self.returns = [*bought], [*back]
        shutil.copytree(log, self.folder / "log")
        self.log = EventLog(self.folder / "log")
        self.registry = MemoryRegistry(self.folder / "registry")

    def serve(self, version: int, *, until: int = DAYS) -> None:
        """Predict everything from the day on which a version went live."""
        vectors, answers = served(self.closed_on, version, until)
        append(self.log, VECTORS, vectors)
        append(self.log, PREDICTIONS, answers)

    def runner(self, of: Model = model, **changes: Any) -> TrainingRunner:
        """A runner of this model."""
        return TrainingRunner(of, self.log, self.model_events, self.registry, self.pool, **changes)

    @property
    def state(self) -> ModelState:
        """What the model events amount to."""
        return fold(events(self.model_events.read(), model.name))
