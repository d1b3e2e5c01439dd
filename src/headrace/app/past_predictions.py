"""Past predictions, from the event log: what was served, what it was made of, and what came of it."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, get_type_hints

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
from msgspec.structs import replace

from headrace.base.times import SECOND, epoch_us, utc_datetime
from headrace.bus.source_partition import NO_CLOCK
from headrace.errors import TerminalError
from headrace.event_log.columns import ACCEPTED
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.entity_rows import entity_rows
from headrace.features.offline.vector_values import vector_columns
from headrace.models.predictions import Prediction, predictions_of
from headrace.trainers.audit.compare import recomputed
from headrace.trainers.audit.vector_parts import VectorParts
from headrace.trainers.data.model_log import ModelLog

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.event_log.event_log import EventLog
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.kernel.tile_kernel import TileKernel
    from headrace.trainers.audit.audited_service import AuditedService
    from headrace.trainers.audit.vector_parts import VectorPart
    from headrace.trainers.definitions import Model

_FIELDS = list(get_type_hints(Prediction))


class _ExplainedVector(NamedTuple):
    """The columns of a served vector that explain it; the texts are JSON."""

    service: str
    served_at: datetime
    request: str
    offsets: str
    statuses: str


class PastOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """The label of a prediction's request, as far as it is known: ``reason`` says why ``label`` is None.

    The label is true or false, a class or a number. ``revision`` counts the labels that decided so far; 0 if none did.
    """

    label: bool | str | int | float | None = None
    revision: int = 0
    reason: str = ""


class PastFeature(msgspec.Struct, frozen=True, kw_only=True):
    """A value of the served vector, and the same value computed again from the event log at the logged V and t.

    A time or a date is text, and a list is JSON.
    """

    name: str
    served: float | str | None
    recomputed: float | str | None


class PastView(msgspec.Struct, frozen=True, kw_only=True):
    """One view's part of the served vector.

    ``offsets`` is V. ``events`` counts the events of the entity below V in the view's longest window, and ``age`` is
    the time from the newest of them to t. ``newest`` are some of these events with all their fields, newest last.
    """

    name: str
    version: str
    status: str
    age: str | None
    offsets: dict[str, int]
    events: int
    newest: list[dict[str, Any]]


class PastPrediction(msgspec.Struct, frozen=True, kw_only=True):
    """A prediction as it was served, with everything that the event log knows about it.

    ``note`` says why ``views`` and ``features`` are empty, if they are.
    """

    prediction: dict[str, Any]
    outcome: PastOutcome
    service: str | None = None
    request: dict[str, Any] = {}
    views: list[PastView] = []
    features: list[PastFeature] = []
    note: str = ""


class PastPredictions:
    """Reads past predictions. ``model`` returns the model of a name.

    ``services`` returns the deployed versions of feature services, by hash. It is called only for a vector that was
    made with an earlier version of its model's service.
    """

    def __init__(
        self, model: Callable[[str], Model], log: EventLog, services: Callable[[], Mapping[str, AuditedService]]
    ) -> None:
        self._model, self._log, self._services = model, log, services

    def newest(
        self,
        count: int,
        *,
        model: str | None = None,
        key: str | None = None,
        version: int | None = None,
        since: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Return the newest predictions that match, the newest first.

        Raises ProjectError for a model that has none and is not in the project.
        """
        wanted = {"model": model, "key": key, "version": version}
        keep = ds.field("__verdict") == ACCEPTED
        for name, value in wanted.items():
            keep = keep if value is None else keep & (ds.field(name) == value)
        if since is not None:
            keep &= ds.field("served_at") >= pa.scalar(since, pa.timestamp("us", "UTC"))
        found = [_as_json(row) for row in self._newest(keep, count).iter_rows(named=True)]
        if model is not None and not found:
            self._model(model)
        return found

    def _newest(self, keep: ds.Expression, count: int) -> pl.DataFrame:
        """Return the newest rows that a filter keeps. Only these and one piece of the log are in memory."""
        found: list[pl.DataFrame] = []
        topic = predictions_of(self._log.namespace).topic
        if not self._log.exists(topic):
            return pl.DataFrame()
        known = self._log.empty(topic).columns  # a log that only earlier releases wrote has fewer
        fields = [name for name in _FIELDS if name in known]
        for piece in self._log.scan(topic, fields, keep):
            together = pl.concat([*found, piece.select(fields)])
            found = [together.sort("served_at", descending=True, maintain_order=True).head(count)]
        return found[0] if found else pl.DataFrame()

    def show(self, prediction_id: str, *, now_us: int, newest: int = 5) -> PastPrediction:
        """Return all about one prediction. ``newest`` is the number of events of each view to name.

        ``now_us`` is the time up to which labels are known. Raises TerminalError if the event log has no such
        prediction.
        """
        chosen = (ds.field("__verdict") == ACCEPTED) & (ds.field("prediction_id") == prediction_id)
        found = self._newest(chosen, 1).to_dicts()
        if not found:
            raise TerminalError(
                f"the event log has no prediction {prediction_id!r}: `headrace predictions list` shows the newest; one "
                "that was served a moment ago comes with the next commit of a worker"
            )
        prediction = Prediction(**found[0])
        model = self._model(prediction.model)
        past = PastPrediction(prediction=_as_json(found[0]), outcome=self._outcome(model, prediction, now_us))
        part = self._vector(model, prediction.vector_id)
        if isinstance(part, str):
            return replace(past, note=part)
        if part.not_logged:
            return replace(past, note="its vector used records that the event log does not have")
        vector = _ExplainedVector(*part.served.vectors.select(_ExplainedVector._fields).row(0))
        request = msgspec.json.decode(vector.request, type=dict[str, Any])
        views = [self._view(spec, vector, request, newest) for spec in part.served.specs]
        return replace(past, service=vector.service, request=request, views=views, features=_features(part))

    def _vector(self, model: Model, vector_id: str) -> VectorPart | str:
        """Return the vector as an audit reads it, or a sentence that says why it cannot be read."""
        parts = VectorParts(model, self._log, vector_id=vector_id)
        for version in parts.services:  # one, if it is not the present one
            service = self._services().get(version)
            if service is None:
                return f"its vector is of the feature service {version}, whose definition is not known here"
            parts = VectorParts(model, self._log, service=service, vector_id=vector_id)
        return next(iter(parts), "the event log does not have its vector")

    def _outcome(self, model: Model, prediction: Prediction, now_us: int) -> PastOutcome:
        """Return the label of the request that the prediction was made for."""
        until_us = epoch_us(prediction.requested_at) + model.label.spec.within_us
        if until_us > now_us:
            return PastOutcome(reason=f"its label counts until {_time(until_us)}")
        own = (pl.col("__key") == prediction.key) & (pl.col(model.requested_at) == prediction.requested_at)
        log = ModelLog(model, self._log)
        found = log.labelled(now_us).filter(own).select("__label", "__revision").rows()
        if not found:
            return PastOutcome(reason="the event log does not have its request")
        label, revision = found[0]
        reason = "" if label is not None else unlabelled(until_us, log.labels_clock_us())
        return PastOutcome(label=label, revision=revision or 0, reason=reason)

    def _view(self, spec: ViewSpec, vector: _ExplainedVector, request: dict[str, Any], newest: int) -> PastView:
        compiled, at_us = kernel(spec), epoch_us(vector.served_at)
        offsets = msgspec.json.decode(vector.offsets, type=dict[str, dict[str, int]]).get(spec.name, {})
        entity = {name: request.get(name) for name in compiled.spec.key_fields}
        rows = entity_rows(self._log, compiled, entity, offsets, _span(compiled, at_us))
        last: Any = rows.get_column("__time").max()
        statuses = msgspec.json.decode(vector.statuses, type=dict[str, str])
        shown = rows.drop("__time").tail(newest)
        return PastView(
            name=spec.name,
            version=spec.version,
            status=statuses.get(spec.name, "unknown"),
            age=None if last is None else said_age(at_us - last),
            offsets=offsets,
            events=rows.height,
            newest=[_as_json(each) for each in shown.iter_rows(named=True)],
        )


def _span(compiled: TileKernel, at_us: int) -> tuple[int, int]:
    """Return the event times, [from, to), that the windows of a view cover at t."""
    begins, ends = [], []
    for window in compiled.windows:
        first, last = (int(k[0]) for k in window.span(np.array([at_us])))
        begins.append(first * window.size_us)
        ends.append((last + 1) * window.size_us)
    return max(0, min(begins)), max(ends)


def unlabelled(until_us: int, read_us: int) -> str:
    """Return why there is no label, although the time for it is over: it may be that none has been read so far."""
    if read_us >= until_us:
        return "no label has come within the time for it"
    upto = "the event log has no labels yet" if read_us == NO_CLOCK else f"labels are read up to {_time(read_us)}"
    return f"no label has come yet: it counts until {_time(until_us)}, and {upto}"


def said_age(us: int) -> str:
    """Return an age as text: "3 h 05 min", "2 d 04 h", "12.5 s"."""
    minutes, seconds = divmod(us // SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{us / SECOND:g} s"


def _features(part: VectorPart) -> list[PastFeature]:
    again = recomputed(part.served).row(0, named=True)
    served = vector_columns(part.served.vectors, part.served.kinds).row(0, named=True)
    return [PastFeature(name=name, served=_plain(served[name]), recomputed=_plain(own)) for name, own in again.items()]


def _plain(value: Any) -> Any:
    """Return a value, with a time or a date as text, and a list as JSON."""
    if isinstance(value, list):
        return msgspec.json.encode(value).decode()
    return _time(value) if isinstance(value, datetime) else str(value) if isinstance(value, date) else value


def _time(at: datetime | int) -> str:
    found = utc_datetime(at) if isinstance(at, int) else at
    return found.isoformat().replace("+00:00", "Z")


def _as_json(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with its times as text."""
    return {name: _time(value) if isinstance(value, datetime) else value for name, value in row.items()}
