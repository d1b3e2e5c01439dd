"""The rows of the event log that belong to one model: its requests, their labels, served vectors and predictions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from headrace.features.offline.vector_values import logged_columns
from headrace.models.predictions import predictions_of, vectors_of
from headrace.trainers.data.label_values import label_value, prediction_array, prediction_of, truths
from headrace.trainers.data.labelled_requests import LabelledRequests
from headrace.trainers.data.request_joins import LABEL, REQUEST, as_of_clock, of_requests
from headrace.trainers.data.topic_rows import TopicRows
from headrace.trainers.triggers.evidence import DAY_US, Evidence, Outcomes, ServedScores
from headrace.trainers.triggers.waiting_labels import HELD_AFTER_US, WaitingLabels

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogSnapshot, ReadableLog
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.definitions import Model

DOUBTFUL = ("out_of_range", "rebuilding", "behind", "stale")
"""The statuses of a view whose values may lack events, or are old. See ``Model.on_stale``."""
_VECTOR = ["key", "requested_at", "served_at", "offsets"]
_VALUES = ["service", "values"]
_VECTOR_ID = pl.col("vector_id").hash().alias("vector")  # a long text otherwise, one a prediction


def outside(spans: Sequence[TimeSpan], us: pl.Expr) -> pl.Expr:
    """Return an expression that is true if a request of this time is in none of the spans."""
    return pl.all_horizontal(pl.lit(value=True), *((us < span.from_us) | (us >= span.to_us) for span in spans))


def _known(t_us: int) -> pl.Expr:
    """Return an expression that is true if a request was available at this time."""
    return pl.col("__available_us") <= t_us


def is_doubtful_vector() -> pl.Expr:
    """Return an expression that is true if a view of a vector has a status of :data:`DOUBTFUL`."""
    return pl.col("statuses").str.contains(rf':\s*"(?:{"|".join(DOUBTFUL)})"')


def is_doubtful(model: Model) -> pl.Expr:
    """Return an expression that is true if the model leaves a vector out, because it is doubtful."""
    return pl.lit(value=model.on_stale == "leave_out") & is_doubtful_vector()


class ModelLog:
    """Reads the requests, labels, vectors and predictions of one model, each row once. Times are microseconds UTC.

    A request is *matured* when the limit of its label is over. The methods take the clock's time ``t_us`` and use only
    rows that were available by then. They leave out requests made in the ``excluded`` spans. With a ``snapshot`` they
    read that instead of the log as it is now. Not for several threads at once.
    """

    def __init__(self, model: Model, log: ReadableLog) -> None:
        self._model = model
        self._vectors_topic = vectors_of(log.namespace).topic
        label = model.label
        self._requests = TopicRows.of_log(
            log,
            model.requests.topic,
            [
                *(pl.col(f.name) for f in model.requests.fields),
                pl.col("__topic_id"),
                pl.col(model.request_key).cast(pl.String).alias("__key"),
                pl.col(model.requested_at).dt.epoch("us").alias("__requested_us"),
            ],
        )
        self._labels = TopicRows.of_log(
            log,
            label.stream.topic,
            [
                pl.col(label.on).alias("__on"),
                label_value(label).alias("__label"),
                pl.col("__available_at").dt.epoch("us").alias("__labelled_us"),
            ],
        )
        self._labelled = LabelledRequests(self._requests, self._labels, label)
        own = pl.col("model") == model.name
        self._values = logged_columns([model.features.column_kinds], _VALUES) if model.learn_from == "logged" else []
        served = map(pl.col, [*_VECTOR, *self._values])
        doubtful = is_doubtful(model)
        self._vectors = TopicRows.of_log(
            log,
            self._vectors_topic,
            [*served, doubtful.alias("doubtful")],
            unique=["key", "requested_at"],
            where=own,
        )
        self._doubtful = TopicRows.of_log(log, self._vectors_topic, [_VECTOR_ID], where=own & doubtful)
        self._predictions = TopicRows.of_log(
            log,
            predictions_of(log.namespace).topic,
            [
                *map(pl.col, ["key", "version", "role", "requested_at"]),
                prediction_of(label.predicts),
                _VECTOR_ID,
            ],
            unique=["key", "version", "requested_at"],
            where=own & prediction_of(label.predicts).is_not_null(),
        )

    def positions(self) -> dict[str, Mapping[SourcePartition, int]]:
        """Topic → source partition → the offset below which every request, label and vector was read."""
        topics = (self._model.requests.topic, self._model.label.stream.topic, self._vectors_topic)
        tables = (self._requests, self._labels, self._vectors)
        return {topic: table.positions() for topic, table in zip(topics, tables, strict=True)}

    def requests(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """All requests in order of availability."""
        return self._requests.frame(snapshot)

    def labels(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """All labels in order of availability, with the columns of :data:`LABEL`. See :func:`found_labels`."""
        return self._labels.frame(snapshot).select(LABEL)

    def labels_clock_us(self) -> int:
        """The time up to which the last call of :meth:`labels` had read every partition of the label's stream."""
        return self._labels.clock_us()

    def vectors(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """The first vector for each key and time of a request."""
        return self._vectors.frame(snapshot)

    def predictions(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """The first prediction of each version for each key and time of a request. Those of another task are left out.

        ``score`` is that of :func:`prediction_of`.
        """
        return self._predictions.frame(snapshot)

    def evident_predictions(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """The predictions that say something of their version: not those of vectors that the model leaves out."""
        doubtful = self._doubtful.frame(snapshot)
        found = self.predictions(snapshot)
        return found if doubtful.is_empty() else found.join(doubtful, on="vector", how="anti", maintain_order="left")

    def labelled(
        self, t_us: int, *, excluded: Sequence[TimeSpan] = (), snapshot: LogSnapshot | None = None
    ) -> pl.DataFrame:
        """The matured requests with their labels, in order. ``__label`` is null if none has arrived in time so far.

        A request that was not available at ``t_us`` is left out, however old it is. Adds ``__revision`` (see
        :func:`found_labels`), ``__key`` (text), ``__requested_us`` and ``__day`` (the request's day, counted since the
        epoch).
        """
        counted = self._counted(snapshot)
        rows = self._requests.known().hstack(counted.drop(REQUEST))
        return self._matured(rows, t_us, excluded).drop("__available_us")

    def labelled_since(self, from_us: int) -> pl.DataFrame:
        """The requests since a time that were in the log at the last read, matured or not, with their labels so far.

        They have the columns of :meth:`labelled`.
        """
        counted = self._counted()
        rows = self._requests.known().hstack(counted.drop(REQUEST))
        return rows.filter(pl.col("__requested_us") >= from_us)

    def _counted(self, snapshot: LogSnapshot | None = None) -> pl.DataFrame:
        """Return :meth:`LabelledRequests.frame` with the labels that count by now."""
        label, joined = self._model.label, self._labelled.frame(snapshot)
        if label.missing is None:
            return joined
        until_us = pl.col("__requested_us") + label.spec.within_us
        return joined.with_columns(as_of_clock(label, self.labels_clock_us(), until_us))

    def _matured(self, rows: pl.DataFrame, t_us: int, excluded: Sequence[TimeSpan] = ()) -> pl.DataFrame:
        """Return those of some requests that are matured and not excluded."""
        asked_us = pl.col("__requested_us")
        is_matured = _known(t_us) & (asked_us + self._model.label.spec.within_us <= t_us)
        return rows.filter(is_matured & outside(excluded, asked_us))

    def spine(
        self, t_us: int, *, excluded: Sequence[TimeSpan] = (), snapshot: LogSnapshot | None = None
    ) -> pl.DataFrame:
        """The rows of :meth:`labelled` with ``__served_us`` and ``__offsets`` of the served vector, where there is one.

        ``__doubtful`` is true if the model leaves the vector out, see :data:`DOUBTFUL`. A model that learns from logged
        vectors also gets ``__service``, ``__values`` and, if they are needed, ``__texts``. See :func:`of_requests` for
        the request that a vector belongs to.
        """
        labelled = self.labelled(t_us, excluded=excluded, snapshot=snapshot)
        known = self._labelled.frame(snapshot).filter(_known(t_us))
        served = of_requests(self.vectors(snapshot), known).select(
            *REQUEST,
            pl.col("served_at").dt.epoch("us").alias("__served_us"),
            pl.col(["offsets", "doubtful", *self._values]).name.prefix("__"),
        )
        return labelled.join(served, on=REQUEST, how="left", maintain_order="left")

    def outcomes(
        self,
        t_us: int,
        version: int,
        role: str | None = None,
        *,
        excluded: Sequence[TimeSpan] = (),
        snapshot: LogSnapshot | None = None,
    ) -> pl.DataFrame:
        """The matured predictions of a version that have a label, in request order: ``key score __label __day …``.

        A key has as many outcomes as requests. ``__requested_us`` is the time of the request, ``__revision`` the number
        of its labels that were counted so far. See :func:`of_requests` for the request that a prediction belongs to.
        """
        wanted = pl.col("version") == version
        chosen = self.evident_predictions(snapshot).filter(
            wanted if role is None else wanted & (pl.col("role") == role)
        )
        return self.outcomes_of(chosen, t_us, excluded=excluded, snapshot=snapshot)

    def outcomes_of(
        self,
        predictions: pl.DataFrame,
        t_us: int,
        *,
        excluded: Sequence[TimeSpan] = (),
        snapshot: LogSnapshot | None = None,
    ) -> pl.DataFrame:
        """Like :meth:`outcomes`, of predictions that are given: they have ``key``, ``requested_at`` and ``score``."""
        counted = self._counted(snapshot)
        labels = self._matured(counted, t_us, excluded).filter(pl.col("__label").is_not_null())
        scores = of_requests(predictions.select("key", "requested_at", "score"), counted.filter(_known(t_us)))
        joined = labels.join(scores, on=REQUEST, how="inner").sort("__requested_us", "__key")
        return joined.select(pl.col("__key").alias("key"), "score", "__label", "__day", "__requested_us", "__revision")

    def matured_labels(self, t_us: int, excluded: Sequence[TimeSpan] = ()) -> int:
        """The number of matured rows that have a label."""
        return self._matured(self._counted(), t_us, excluded).get_column("__label").count()

    def evidence(self, t_us: int, version: int | None, excluded: Sequence[TimeSpan] = ()) -> Evidence:
        """Return the evidence for the trigger rules.

        The scores and outcomes of the live version are read only when a rule asks for them. ``version`` is the live
        version, or None before the first one.
        """
        rows = self._matured(self._counted(), t_us, excluded)
        labels, waiting = rows.get_column("__label").count(), self._waiting(rows, t_us)

        def matured_at(then_us: int) -> int:
            return self._matured(rows, then_us).get_column("__label").count()

        found = Evidence(t_us, labels, waiting=waiting, matured_at=matured_at)
        if version is None:
            return found
        scores, outcomes = partial(self._scores, version, excluded), partial(self._outcomes, t_us, version, excluded)
        return replace(found, scores=scores, outcomes=outcomes)

    def _waiting(self, rows: pl.DataFrame, t_us: int) -> list[WaitingLabels]:
        """Return the partitions of the label's topic that hold matured requests up. See :func:`as_of_clock`."""
        label = self._model.label
        until = rows.get_column("__requested_us") + label.spec.within_us
        overdue = until.filter(until <= t_us - HELD_AFTER_US)
        if label.missing is None or overdue.is_empty():
            return []
        clocks, topic = self._labels.clocks(), label.stream.topic
        if not clocks:
            return [WaitingLabels(rows=len(overdue), topic=topic)]
        held = [(partition, us, int((overdue >= us).sum())) for partition, us in clocks.items()]
        return [
            WaitingLabels(rows=count, topic=topic, partition=partition, since_us=us)
            for partition, us, count in held
            if count
        ]

    def _scores(self, version: int, excluded: Sequence[TimeSpan]) -> ServedScores:
        live = (pl.col("version") == version) & (pl.col("role") == "live")
        own = self.evident_predictions().filter(live & outside(excluded, pl.col("requested_at").dt.epoch("us")))
        day = own.get_column("requested_at").dt.epoch("us") // DAY_US
        scores = prediction_array(own.get_column("score"), self._model.label.predicts)
        return ServedScores(day.to_numpy(), scores)

    def _outcomes(self, t_us: int, version: int, excluded: Sequence[TimeSpan]) -> Outcomes:
        return self.as_outcomes(self.outcomes(t_us, version, "live", excluded=excluded))

    def as_outcomes(self, own: pl.DataFrame) -> Outcomes:
        """Return rows of :meth:`outcomes` as a rule gets them."""
        task = self._model.label.predicts
        return Outcomes(
            own.get_column("__day").to_numpy(),
            prediction_array(own.get_column("score"), task),
            truths(own.get_column("__label"), task),
            task.quantiles,
        )
