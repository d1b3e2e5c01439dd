"""A training run: build, fit, gate, refit, register, publish. Its own consumer; one run per model at a time."""

from __future__ import annotations

import hashlib
import inspect
import platform
import time
import zlib
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import structlog

from headrace.errors import HeadraceError
from headrace.models import artifact
from headrace.models.event_log import ModelEventLog, events
from headrace.models.events import ArtifactRef, Cause, ManifestRef, ModelEvent, Published, ServiceRef, ViewRef
from headrace.models.manifest import Manifest, StreamPin
from headrace.models.registry import FinishedRun, Registration, Registry
from headrace.models.state import ModelState, fold
from headrace.trainers import gate
from headrace.trainers.definitions import Model, Run
from headrace.trainers.fitting import FitPool, FitResult, FitTask
from headrace.trainers.messages import RetrainRequest, RunFinished
from headrace.trainers.observation import DAY_US
from headrace.trainers.training_set import TrainingSet, TrainingSets

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.features.expression import Json
    from headrace.features.log import EventLog
    from headrace.trainers.trigger_state import RunOutcome
logger = structlog.get_logger(__name__)
_LIBRARIES = ("headrace", "scikit-learn", "numpy", "pandas", "polars", "skops")


@dataclass
class _Timer:
    """Seconds spent by step."""

    seconds: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, action: Callable[[], Any]) -> Any:
        started = time.perf_counter()
        try:
            return action()
        finally:
            self.seconds[step] = round(time.perf_counter() - started, 3)


@dataclass(frozen=True)
class _Split:
    """Rows to fit on and rows to judge by: whole days, the fit's rows matured before the first of them."""

    train: np.ndarray
    holdout: np.ndarray
    days: tuple[int, int]


class TrainingRunner:
    """Answers retrain requests of one model. ``looks`` are the holdout spans that earlier runs have looked at."""

    def __init__(
        self,
        model: Model,
        log: EventLog,
        model_events: ModelEventLog,
        registry: Registry,
        pool: FitPool,
        *,
        seed: int = 0,
        looks: Sequence[tuple[int, int]] = (),
    ) -> None:
        self._model = model
        self._sets = TrainingSets(model, log)
        self._events = model_events
        self._registry = registry
        self._pool = pool
        self._seed = seed
        self._looks = list(looks)

    def run(self, request: RetrainRequest) -> RunFinished:
        """Do what was asked, or say why not. Asked again with the same id, it publishes nothing new."""
        timer = _Timer()
        published = self._state().request(request.request_id)
        if published is not None:
            return self._finished(request, timer, "published", "published before", event=published)
        try:
            return self._attempt(request, timer)
        except Exception as error:  # whatever it was, the next request is another one
            logger.exception("run failed", request=request.request_id)
            published = self._state().request(request.request_id)  # it may have failed after it was published
            if published is not None:
                return self._finished(request, timer, "published", f"published, then {error}", event=published)
            return self._finished(request, timer, "failed", f"{type(error).__name__}: {error}")

    def _attempt(self, request: RetrainRequest, timer: _Timer) -> RunFinished:
        data: TrainingSet = timer.measure("training_set", lambda: self._sets.build(request.t_us))
        split = self._split(data, request.t_us)
        if not split.train.any() or not split.holdout.any():
            return self._finished(request, timer, "postponed", "no rows to fit on, or none to judge by", rows=len(data))
        state = self._state()
        fitted = timer.measure("fit", lambda: self._fit(data, split.train, request, data.take(split.holdout)))
        report = timer.measure("gate", lambda: self._judge(data, split, state, fitted.scores, request.t_us))
        self._looks.append(split.days)
        model = None
        if report.verdict == "passed":
            everything = np.ones(len(data), bool)
            model = timer.measure("refit", lambda: self._fit(data, everything, request, None))
        registration = timer.measure("register", lambda: self._register(request, data, report, fitted, model))
        if model is None:
            outcome: RunOutcome = "refused" if report.verdict == "refused" else "postponed"
            return self._finished(
                request, timer, outcome, report.reason, report=report, rows=len(data), days=split.days
            )
        event = timer.measure("publish", lambda: self._publish(request, state, registration, report, data))
        void = next((v for v in self._state().void if v.event.id == event.id), None)
        if void is not None:
            return self._finished(
                request, timer, "failed", f"void: {void.reason}", report=report, rows=len(data), days=split.days
            )
        self._registry.promote(self._model.name, event.data.version)
        return self._finished(
            request, timer, "published", report.reason, report=report, event=event, rows=len(data), days=split.days
        )

    def _state(self) -> ModelState:
        return fold(events(self._events.read(), self._model.name))

    def _split(self, data: TrainingSet, t_us: int) -> _Split:
        """The newest whole matured days for the gate; for the fit what was matured when the first of them began."""
        within = self._model.label.within_us
        last = (t_us - within) // DAY_US
        first = last - self._model.gate.holdout_us // DAY_US
        holdout = (data.day >= first) & (data.day < last)
        return _Split(data.requested_us + within <= first * DAY_US, holdout, (int(first), int(last)))

    def _fit(
        self, data: TrainingSet, rows: np.ndarray, request: RetrainRequest, holdout: TrainingSet | None
    ) -> FitResult:
        import pandas as pd  # noqa: PLC0415

        own = data.take(rows)
        run = Run(
            model=self._model.name,
            request_id=request.request_id,
            seed=zlib.crc32(request.request_id.encode()) ^ self._seed,
            trained_from_us=int(own.requested_us.min()),
            trained_to_us=int(own.requested_us.max()),
        )
        label = pd.Series(own.label, name="label")
        return self._pool.fit(
            FitTask(self._model.fit, own.frame, label, run, None if holdout is None else holdout.frame)
        )

    def _judge(
        self, data: TrainingSet, split: _Split, state: ModelState, scores: np.ndarray, t_us: int
    ) -> gate.GateReport:
        held, label = data.take(split.holdout), data.label[split.train]
        looks = np.array([1 + sum(first <= day < last for first, last in self._looks) for day in held.day.tolist()])
        champion = state.published_live
        if champion is None:
            newest = data.day[split.train] >= split.days[0] - 7
            return gate.judge_first(
                held.day,
                held.label,
                scores,
                label_rate=float(label.mean()),
                last_rate=float(label[newest].mean()) if newest.any() else float(label.mean()),
                looks=looks,
                seed=self._seed,
            )
        served = self._sets.log.outcomes(t_us, champion.version, "live")
        of_key = dict(zip(served.get_column("key").to_list(), served.get_column("score").to_list(), strict=True))
        theirs = np.array([of_key.get(key, np.nan) for key in held.key.tolist()])
        both = ~np.isnan(theirs) & (held.requested_us >= champion.trained_to_us)
        rule = self._model.gate
        return gate.judge(
            held.day[both],
            held.label[both],
            theirs[both],
            scores[both],
            metric=rule.metric,
            rule=rule.rule,
            margin=rule.margin,
            looks=looks[both],
            seed=self._seed,
        )

    def _register(
        self,
        request: RetrainRequest,
        data: TrainingSet,
        report: gate.GateReport,
        fitted: FitResult,
        model: FitResult | None,
    ) -> Registration:
        return self._registry.record(
            FinishedRun(
                name=self._model.name,
                request_id=request.request_id,
                manifest=self._manifest(request, data),
                gate=msgspec.to_builtins(report),
                started_us=request.t_us,
                finished_us=request.t_us,
                challenger=fitted.artifact,
                model=None if model is None else model.artifact,
                params={"rule": request.rule, "rows": len(data)},
                metrics=_metrics(report),
            )
        )

    def _manifest(self, request: RetrainRequest, data: TrainingSet) -> Manifest:
        model = self._model
        views = model.features.views
        return Manifest(
            model=model.name,
            request_id=request.request_id,
            streams=[_pin(topic, dict(positions)) for topic, positions in self._sets.history.positions().items()],
            rows=len(data),
            content_hash=data.content_hash(),
            row_order=["available_at", "partition", "offset"],
            service=model.features.version,
            spec_hashes={view.name: view.version for view in views},
            feature_columns=model.features.columns(),
            request_features=list(model.request_features),
            label=model.label.spec(),
            seeds={"run": zlib.crc32(request.request_id.encode()) ^ self._seed, "gate": self._seed},
            libraries={name: _version(name) for name in _LIBRARIES} | {"python": platform.python_version()},
            code="sha256:" + hashlib.sha256(_source(model.fit).encode()).hexdigest(),
            trained_from_us=int(data.requested_us.min()),
            trained_to_us=int(data.requested_us.max()),
        )

    def _publish(
        self,
        request: RetrainRequest,
        state: ModelState,
        registration: Registration,
        report: gate.GateReport,
        data: TrainingSet,
    ) -> ModelEvent:
        if registration.version is None or registration.artifact_uri is None:
            message = f"run {request.request_id} passed its gate and has no version in the registry"
            raise HeadraceError(message)
        published = Published(
            version=registration.version,
            artifact=_stored(registration.artifact_uri),
            service=service_ref(self._model),
            manifest=ManifestRef(uri=registration.manifest_uri, hash=registration.manifest_hash),
            metrics=_metrics(report),
            gate=msgspec.to_builtins(report),
            cause=Cause(rule=request.rule, reason=request.reason),
            request_id=request.request_id,
            trained_to_us=int(data.requested_us.max()),
            expects=state.live_id,
            run=registration.run_id,
        )
        event = ModelEvent(
            id=f"{request.request_id}-v{registration.version}",
            model=self._model.name,
            at_us=request.t_us,
            data=published,
        )
        self._events.append(event)
        return event

    def _finished(
        self,
        request: RetrainRequest,
        timer: _Timer,
        outcome: RunOutcome,
        reason: str,
        *,
        report: gate.GateReport | None = None,
        event: ModelEvent | None = None,
        rows: int = 0,
        days: tuple[int, int] | None = None,
    ) -> RunFinished:
        return RunFinished(
            request_id=request.request_id,
            model=self._model.name,
            outcome=outcome,
            reason=reason,
            rule=request.rule,
            t_us=request.t_us,
            matured_labels=request.matured_labels,
            version=None if event is None else event.data.version,
            event_id=None if event is None else event.id,
            gate=None if report is None else msgspec.to_builtins(report),
            rows=rows,
            holdout_days=days,
            seconds=timer.seconds,
        )


def service_ref(model: Model) -> ServiceRef:
    """What a model event says of the features, so that applications need no definitions."""
    return ServiceRef(
        name=model.features.name,
        hash=model.features.version,
        views=[
            ViewRef(name=view.name, spec_hash=view.version, keys=list(view.entity.join_keys))
            for view in model.features.views
        ],
        columns=model.features.columns(),
        request_features=list(model.request_features),
        key=model.key,
        at=model.at,
    )


def _stored(uri: str) -> ArtifactRef:
    """What is in the registry: of a run that was cut short and done again, the first attempt's bytes."""
    data = artifact.fetch(uri)
    return ArtifactRef(uri=uri, digest=artifact.digest(data), content_hash=artifact.content_hash(data))


def _pin(topic: str, positions: Mapping[Any, int]) -> StreamPin:
    topic_ids = sorted({source.topic_id.hex() for source in positions})
    offsets = {source.text: offset for source, offset in sorted(positions.items())}
    return StreamPin(topic=topic, topic_id=",".join(topic_ids), offsets=offsets)


def _metrics(report: gate.GateReport) -> dict[str, float]:
    found: dict[str, Json] = {}
    for name, compared in report.metrics.items():
        slug = name.replace(" ", "_").replace("'", "")
        found |= {
            f"{slug}_challenger": compared.challenger,
            f"{slug}_champion": compared.champion,
            f"{slug}_gain_low": compared.gain_low,
        }
    return found


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _source(function: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        return f"{function.__module__}.{function.__qualname__}"
