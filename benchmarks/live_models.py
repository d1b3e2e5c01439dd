"""Live models with a drift rule and watched inputs, for the benchmark of many models in one trainer.

    python -m benchmarks.live_models        makes the logs, ticks, and prints the seconds

Each model has a live version and the vectors that were served. The rule scores them with that version; nulls are
counted, and the label is compared. CPU seconds are those of the trainer's process, with one thread of Polars.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression

from headrace import any_of, drift, volume
from headrace.base.times import utc_datetime
from headrace.event_log.event_log import EventLog
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.model_events import ArtifactRef, Cause, ManifestRef, ModelEvent, Published, ServiceRef
from headrace.models.predictions import ServedVector, vectors_of
from headrace.trainers.data.model_evidence import EvidenceSources
from headrace.trainers.process.trigger_consumer import TriggerConsumer, TriggerOptions
from headrace.trainers.runs.messages import DecisionRecord, decode

from .models import A_DAY, DAY_US, DAYS, MINUTE_US, MODELS, NOW_US, START_US, TICKS, models, write
from .requests import append
from .results import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace import Model


def live_models(count: int) -> list[Model]:
    """Those of the benchmark, each with a rule that looks at the scores."""
    rule = any_of(volume(labels=10_000_000), drift("score", psi=0.2, sample="14d"))
    return [replace(model, triggers=rule) for model in models(count)]


def write_vectors(log: EventLog, of: Sequence[Model]) -> None:
    """Log what was served for each request: all models share one topic."""
    rng, made = np.random.default_rng(6), []
    for number, model in enumerate(of):
        times = np.sort(rng.integers(START_US, START_US + DAYS * DAY_US, DAYS * A_DAY)).tolist()
        made += [(at, number, place, model) for place, at in enumerate(times)]
    made.sort(key=lambda each: each[0])
    rows = [vector(model, f"{number}-{place}", at, float(rng.poisson(9))) for at, number, place, model in made]
    append(log, vectors_of("headrace"), rows, [at for at, *_ in made])


def vector(model: Model, key: str, at_us: int, value: float) -> ServedVector:
    """One served vector."""
    at = utc_datetime(at_us)
    return ServedVector(
        vector_id=key, model=model.name, key=key, requested_at=at, served_at=at, service=model.features.version,
        values=[value], statuses='{"v":"present"}', offsets="{}", request=f'{{"amount":{value / 9}}}',
    )  # fmt: skip


def publish(of: Sequence[Model], folder: Path) -> MemoryModelEventLog:
    """Make a version live for each model, in an artifact of its own."""
    frame = np.random.default_rng(7).normal(size=(200, 2))
    events = MemoryModelEventLog()
    for model in of:
        fitted = LogisticRegression().fit(frame, frame[:, 0] > 0)
        made = artifact.dump(fitted)
        where = ArtifactRef(
            uri=artifact.store(made, folder / f"{model.name}.skops"), digest=made.digest, content_hash=made.content_hash
        )
        events.append(
            ModelEvent(id=f"live-{model.name}", model=model.name, at_us=START_US, data=published(model, where))
        )
    return events


def published(model: Model, where: ArtifactRef) -> Published:
    """The publication of version 1."""
    service = ServiceRef(
        name=model.features.name, hash=model.features.version, views=[], columns=model.features.columns(),
        request_features=[*model.request_features], key=model.request_key, at=model.requested_at,
    )  # fmt: skip
    return Published(
        version=1, artifact=where, service=service, manifest=ManifestRef(uri="file:///none", hash=""),
        metrics={}, gate={}, cause=Cause(rule="first", reason=""), request_id="r", trained_to_us=START_US, expects=None,
    )  # fmt: skip


def tick(log: EventLog, of: Sequence[Model], events: MemoryModelEventLog, folder: Path) -> dict[str, Any]:
    """The first tick of a trainer, ticks a minute apart, and the first tick of the next day."""
    records: list[DecisionRecord] = []

    def send(_topic: str, _key: bytes, value: bytes) -> None:
        records.append(decode(value, DecisionRecord))

    options = TriggerOptions(patience_s=600, sources=EvidenceSources(ArtifactPlaces([folder])))
    consumer = TriggerConsumer(of, log, events, send, options=options)
    seconds = []
    for at in (*(NOW_US + number * MINUTE_US for number in range(TICKS + 1)), NOW_US + DAY_US):
        began, cpu = time.perf_counter(), time.process_time()
        consumer.tick(at)
        seconds.append((time.perf_counter() - began, time.process_time() - cpu))
    check(records, len(of))
    first, *usual, new_day = seconds
    return {
        "first_tick_s": round(first[0], 2),
        "first_tick_cpu_s": round(first[1], 2),
        "tick_s": round(median([wall for wall, _ in usual]), 3),
        "tick_cpu_s": round(median([cpu for _, cpu in usual]), 3),
        "new_day_tick_s": round(new_day[0], 2),
        "new_day_tick_cpu_s": round(new_day[1], 2),
    }


def check(records: Sequence[DecisionRecord], count: int) -> None:
    """Raise if a model was not judged by its scores, or if its inputs were not watched on both days."""
    judged = {each.model for each in records if each.decision and "rules" in each.decision.inputs
              and each.decision.inputs["rules"]["drift"]["psi"] is not None}  # fmt: skip
    watched = [each for each in records if each.watched]
    if len(judged) != count or len(watched) != 2 * count:
        last = msgspec.json.encode(records[-1])[:600]
        raise RuntimeError(f"{len(judged)} models were judged, {len(watched)} watch reports: {last!r}")


def main(count: int = MODELS) -> None:
    """Print the seconds as a line of JSON."""
    os.environ.setdefault("POLARS_MAX_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="live-models-") as name:
        folder, of = Path(name), live_models(count)
        log = EventLog(folder / "log")
        write(log, of)
        write_vectors(log, of)
        print(json.dumps({"models": count, **tick(log, of, publish(of, folder), folder)}))  # noqa: T201 - the result


if __name__ == "__main__":
    main()
