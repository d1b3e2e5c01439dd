"""What the event log knows of one model: its requests, their labels, what was served and predicted. Read once each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from headrace.bus.source_partition import NO_CLOCK
from headrace.event_log.event_log import ACCEPTED, EventLog, LogReader
from headrace.features.kernel.expression_polars import to_polars
from headrace.models.predictions import PREDICTIONS, VECTORS
from headrace.trainers.triggers.evidence import DAY_US, Evidence, Outcomes, ServedScores

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.definitions import Label, Model

_VECTOR = ["key", "requested_at", "served_at", "offsets"]
_VALUES: dict[str, list[str]] = {"events": [], "logged": ["service", "values"]}
_ORDER = ["__available_at", "__partition", "__offset"]
_SOURCE = ["__partition", "__topic_id"]


class _RowsByKey:
    """The accepted rows of one stream that some selection keeps, in order of availability; of equal keys the first."""

    def __init__(
        self,
        reader: LogReader,
        selection: list[pl.Expr],
        *,
        unique: list[str] | None = None,
        where: pl.Expr | None = None,
    ) -> None:
        self._reader = reader
        self._selection = [*selection, *map(pl.col, _ORDER)]
        self._unique = unique
        accepted = pl.col("__verdict") == ACCEPTED
        self._where = accepted if where is None else accepted & where
        self._frame: pl.DataFrame | None = None
        self._clocks: dict[Any, int] = {}

    def positions(self) -> Mapping[SourcePartition, int]:
        """The offsets below which everything was read."""
        return self._reader.positions()

    def frame(self) -> pl.DataFrame:
        """All rows so far."""
        new = self._reader.read()
        self._clocks |= _clocks(new)
        if self._frame is None or not new.is_empty():
            kept = self._in_order(new.filter(self._where).select(self._selection))
            self._frame = kept if self._frame is None else self._with(self._frame, kept)
        return self._frame

    def clock_us(self) -> int:
        """What was available until then is here, of every partition that is; of none :data:`NO_CLOCK`.

        Of a topic that was made anew the partitions of its newest incarnation count.
        """
        if not self._clocks:
            return NO_CLOCK
        _, newest = max(self._clocks, key=lambda source: self._clocks[source])
        return min(us for (_, topic_id), us in self._clocks.items() if topic_id == newest)

    def _with(self, frame: pl.DataFrame, kept: pl.DataFrame) -> pl.DataFrame:
        """New rows mostly come after all that were there: then these need not be put in order again."""
        if frame.is_empty() or kept.is_empty() or kept.select(_ORDER).row(0) < frame.select(_ORDER).row(-1):
            return self._in_order(pl.concat([frame, kept]))
        if self._unique is not None:
            kept = kept.join(frame, on=self._unique, how="anti", nulls_equal=True, maintain_order="left")
        return pl.concat([frame, kept])

    def _in_order(self, frame: pl.DataFrame) -> pl.DataFrame:
        ordered = frame.sort(_ORDER)
        return ordered if self._unique is None else ordered.unique(self._unique, keep="first", maintain_order=True)


def _clocks(rows: pl.DataFrame) -> dict[Any, int]:
    """Source partition → when its last row was available: the running maximum."""
    last = rows.group_by(_SOURCE).agg(pl.col("__available_at").dt.epoch("us").max())
    return {tuple(source): us for *source, us in last.iter_rows()}


def joined_label(label: Label, until_us: pl.Expr, clock_us: int) -> pl.Expr:
    """The label of a row that is joined with :meth:`ModelLog.labels`, if it came ``until_us``; else null.

    Where a missing one counts as false, no row has a label before the log has all partitions of its stream up to
    ``clock_us``, beyond that limit: until then a label may lie in Kafka, or on its way into the log, and those that are
    there already would be the true ones alone.
    """
    in_time = pl.col("__labelled_at").dt.epoch("us") <= until_us
    if label.missing is None:
        return pl.when(in_time).then("__label")
    is_over = until_us < clock_us
    return pl.when(is_over & in_time).then("__label").when(is_over).then(pl.lit(value=False))


class ModelLog:
    """Reads the log of one model incrementally. Times are microseconds UTC.

    A row is *matured* when its label's limit is over. Not for several threads at once. Every method takes the clock's
    time ``t_us`` and sees what was available by then. ``excluded`` are spans of request times that it leaves out.
    """

    def __init__(self, model: Model, log: EventLog) -> None:
        self._model = model
        self.excluded: Sequence[TimeSpan] = ()
        label = model.label
        self._requests = _RowsByKey(
            log.reader(model.requests.topic), [*(pl.col(f.name) for f in model.requests.fields), pl.col("__topic_id")]
        )
        self._labels = _RowsByKey(
            log.reader(label.stream.topic),
            [pl.col(label.on).alias("__on"), to_polars(label.value.tree).alias("__label")],
            unique=["__on"],
        )
        own = pl.col("model") == model.name
        served = pl.col([*_VECTOR, *_VALUES[model.learn_from]])
        self._vectors = _RowsByKey(log.reader(VECTORS.topic), [served], unique=["key"], where=own)
        self._predictions = _RowsByKey(
            log.reader(PREDICTIONS.topic),
            [pl.col("key", "version", "role", "requested_at", "served_at", "score")],
            unique=["key", "version"],
            where=own,
        )

    def positions(self) -> dict[str, Mapping[SourcePartition, int]]:
        """Topic → source partition → the offset below which everything was read, of requests, labels and vectors."""
        topics = (self._model.requests.topic, self._model.label.stream.topic, VECTORS.topic)
        tables = (self._requests, self._labels, self._vectors)
        return {topic: table.positions() for topic, table in zip(topics, tables, strict=True)}

    def requests(self) -> pl.DataFrame:
        """All requests in order of availability."""
        return self._requests.frame()

    def labels(self) -> pl.DataFrame:
        """The first label of each key: ``__on``, ``__label``, ``__labelled_at``."""
        return self._labels.frame().select("__on", "__label", pl.col("__available_at").alias("__labelled_at"))

    def labels_clock_us(self) -> int:
        """Up to when the log had every partition of the label's stream when :meth:`labels` read it last."""
        return self._labels.clock_us()

    def vectors(self) -> pl.DataFrame:
        """The first vector served for each key."""
        return self._vectors.frame()

    def predictions(self) -> pl.DataFrame:
        """The first prediction of each key and version."""
        return self._predictions.frame()

    def labelled(self, t_us: int) -> pl.DataFrame:
        """The matured requests with their labels, in order; ``__label`` is null where none came in time, so far.

        A request that was not available at ``t_us`` is not there, however old it is. Adds ``__key`` (text),
        ``__requested_us`` and ``__day`` (of the request, since the epoch).
        """
        model = self._model
        at = pl.col(model.requested_at)
        until = at.dt.epoch("us") + model.label.within_us
        known = pl.col("__available_at").dt.epoch("us") <= t_us
        rows = self.requests().filter(known & (until <= t_us) & self._kept(at))
        joined = rows.join(self.labels(), left_on=model.label.on, right_on="__on", how="left", maintain_order="left")
        return joined.with_columns(
            joined_label(model.label, until, self.labels_clock_us()).alias("__label"),
            at.dt.epoch("us").alias("__requested_us"),
            (at.dt.epoch("us") // DAY_US).alias("__day"),
            pl.col(model.request_key).cast(pl.String).alias("__key"),
        )

    def spine(self, t_us: int) -> pl.DataFrame:
        """:meth:`labelled`, with ``__served_us`` and ``__offsets`` of the served vector where there was one.

        For a model that learns from what was served, ``__service`` and ``__values`` too. Where a key is requested more
        than once, the vector is of the request of its own time alone: another would see beyond its time.
        """
        served = self.vectors().select(
            pl.col("key").alias("__key"),
            pl.col("requested_at").dt.epoch("us").alias("__vector_us"),
            pl.col("served_at").dt.epoch("us").alias("__served_us"),
            pl.col(["offsets", *_VALUES[self._model.learn_from]]).name.prefix("__"),
        )
        joined = self.labelled(t_us).join(served, on="__key", how="left", maintain_order="left")
        is_own = (pl.col("__requested_us") == pl.col("__vector_us")) | ~pl.col(self._model.request_key).is_in(
            self._repeated(t_us).implode()
        )
        own = [pl.when(is_own).then(name).alias(name) for name in served.columns[2:]]
        return joined.with_columns(own).drop("__vector_us")

    def _repeated(self, t_us: int) -> pl.Series:
        """The keys that were requested more than once by then."""
        keys = (
            self.requests().filter(pl.col("__available_at").dt.epoch("us") <= t_us).get_column(self._model.request_key)
        )
        return keys.filter(keys.is_duplicated()).unique()

    def outcomes(self, t_us: int, version: int, role: str | None = None) -> pl.DataFrame:
        """Matured predictions of a version that have a label, in request order: ``key score __label __day …``."""
        labels = self.labelled(t_us).filter(pl.col("__label").is_not_null())
        labels = labels.select(pl.col("__key").alias("key"), "__label", "__day", "__requested_us")
        wanted = pl.col("version") == version
        chosen = self.predictions().filter(wanted if role is None else wanted & (pl.col("role") == role))
        return chosen.select("key", "score").join(labels, on="key", how="inner").sort("__requested_us", "key")

    def matured_labels(self, t_us: int) -> int:
        """How many matured rows have a label."""
        return self.labelled(t_us).get_column("__label").count()

    def observation(self, t_us: int, version: int | None) -> Evidence:
        """What the rules look at; scores and outcomes of the live version are worked out when asked for."""
        labels = self.matured_labels(t_us)
        if version is None:
            return Evidence(t_us, labels)
        return Evidence(t_us, labels, lambda: self._scores(version), lambda: self._outcomes(t_us, version))

    def _kept(self, at: pl.Expr) -> pl.Expr:
        """Whether a request of that time is in no excluded span."""
        us = at.dt.epoch("us")
        return pl.all_horizontal(pl.lit(value=True), *((us < s.from_us) | (us >= s.to_us) for s in self.excluded))

    def _scores(self, version: int) -> ServedScores:
        live = (pl.col("version") == version) & (pl.col("role") == "live")
        own = self.predictions().filter(live & self._kept(pl.col("requested_at")))
        day = own.get_column("requested_at").dt.epoch("us") // DAY_US
        return ServedScores(day.to_numpy(), own.get_column("score").to_numpy())

    def _outcomes(self, t_us: int, version: int) -> Outcomes:
        own = self.outcomes(t_us, version, "live")
        return Outcomes(
            own.get_column("__day").to_numpy(),
            own.get_column("score").to_numpy(),
            own.get_column("__label").to_numpy().astype(np.int8),
        )
