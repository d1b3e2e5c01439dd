"""Many models in one trainer: seconds of a tick, memory, bytes of decisions a day, and the start after a year."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import psutil

from headrace import (
    Count,
    Entity,
    EventProducer,
    FeatureService,
    FeatureView,
    Gate,
    Label,
    Model,
    Stream,
    any_of,
    col,
    schedule,
    volume,
)
from headrace.base.times import utc_datetime
from headrace.bus.control_topics import ControlTopics
from headrace.bus.tail import TopicTail
from headrace.event_log.event_log import EventLog
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.predictions import predictions_of, vectors_of
from headrace.trainers.process.ended_runs import EndedRuns
from headrace.trainers.process.last_decisions import last_decisions
from headrace.trainers.process.trainer import make_topics
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.messages import DecisionRecord, RunEnded
from headrace.trainers.triggers.trigger_state import Baseline, TriggerState

from .requests import Asked, Came, append
from .results import median
from .rig import console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .options import Options
    from .rig import Rig

MODELS, DAYS, A_DAY = 100, 60, 200
TICKS = 20
DAY_US, MINUTE_US = 86_400_000_000, 60_000_000
START_US = 20_000 * DAY_US
NOW_US = START_US + (DAYS - 1) * DAY_US
YEAR_HOURS, RUNS_A_YEAR = 365 * 24, 52


def never(*_: object) -> None:
    """Nothing is fitted here."""


def models(count: int) -> list[Model]:
    """Models that have nothing in common, each with the streams of its own."""
    made = []
    for number in range(count):
        asked = Stream(f"asked-{number}", Asked, event_time="at")
        came = Stream(f"came-{number}", Came, event_time="at")
        view = FeatureView(
            f"view_{number}", entity=Entity("id", int), source=asked, windows=["1d"], features={"n": Count()}
        )
        made.append(
            Model(
                f"model_{number}",
                requests=asked,
                request_key="id",
                requested_at="at",
                features=FeatureService(f"service_{number}", [view]),
                request_features=["amount"],
                label=Label(came, value=col("bad"), on="id", within="1d"),
                train=never,
                first_after=2_000,
                triggers=any_of(volume(labels=5_000), schedule(every="30d")),
                gate=Gate("auc", holdout="14d"),
                own_event="excluded",
            )
        )
    return made


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """All of it; ``--large`` ticks each minute of a day, else every ten minutes."""
    with tempfile.TemporaryDirectory(prefix="models-") as folder:
        with console.status("making the logs"):
            write(EventLog(folder), models(MODELS))
        step = MINUTE_US if options.large else 10 * MINUTE_US
        asked = [sys.executable, "-m", "benchmarks.models", folder, str(MODELS), str(step)]
        with console.status("ticking"):
            done = subprocess.run(asked, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    found |= start(rig.servers, [model.name for model in models(MODELS)])
    console.print(f"  {found}")
    return {"models": MODELS, "rows_a_model": DAYS * A_DAY, **found}


def write(log: EventLog, of: Sequence[Model]) -> None:
    """Requests, and a label half a day later."""
    rng = np.random.default_rng(5)
    for stream in (vectors_of("headrace"), predictions_of("headrace")):
        log.create(stream)
    for model in of:
        times = np.sort(rng.integers(START_US, START_US + DAYS * DAY_US, DAYS * A_DAY)).tolist()
        bought = [Asked(n, utc_datetime(at), float(rng.normal())) for n, at in enumerate(times)]
        labels = [Came(n, utc_datetime(at + DAY_US // 2), bool(rng.random() < 0.3)) for n, at in enumerate(times)]  # noqa: PLR2004
        for stream, rows, late in ((model.requests, bought, 0), (model.label.stream, labels, DAY_US // 2)):
            append(log, stream, rows, [at + late for at in times])


def tick(folder: str, count: int, step_us: int) -> dict[str, Any]:
    """The first tick, which reads the logs; ticks a minute apart; and the decisions of one day."""
    sent = [0, 0]

    def send(_topic: str, _key: bytes, value: bytes) -> None:
        sent[0] += 1
        sent[1] += len(value)

    consumer = TriggerConsumer(models(count), EventLog(folder), MemoryModelEventLog(), send)
    seconds = []
    for number in range(TICKS + 1):
        began = time.perf_counter()
        consumer.tick(NOW_US + number * MINUTE_US)
        seconds.append(time.perf_counter() - began)
    sent[:] = [0, 0]
    for at in range(NOW_US + DAY_US // 24, NOW_US + DAY_US // 24 + DAY_US, step_us):
        consumer.tick(at)
    return {
        "first_tick_s": round(seconds[0], 2),
        "tick_s": round(median(seconds[1:]), 3),
        "rss_mib": psutil.Process().memory_info().rss >> 20,
        "decisions_a_day": sent[0],
        "decision_bytes_a_day": sent[1],
    }


def start(servers: str, names: Sequence[str]) -> dict[str, Any]:
    """A year of decisions, one an hour for each model, and a run a week; then what a start reads of them."""
    topics = ControlTopics()
    make_topics(servers, topics)
    producer = EventProducer(servers, linger="20ms")
    with console.status("a year of decisions"):
        for hour in range(YEAR_HOURS):
            for name in names:
                producer.put(topics.decisions, name.encode(), decision(name, START_US + hour * 3_600_000_000))
        for week in range(RUNS_A_YEAR):
            for name in names:
                producer.put(topics.runs, name.encode(), end(name, week))
        producer.flush()
    began = time.perf_counter()
    found = last_decisions(servers, topics.decisions, names)
    runs = EndedRuns(TopicTail(servers, [topics.runs], from_beginning=True)).known()
    took = time.perf_counter() - began
    if len(found) != len(names) or len(runs) != len(names) * RUNS_A_YEAR:
        raise RuntimeError(f"{len(found)} decisions and {len(runs)} runs were found")
    return {"decisions": YEAR_HOURS * len(names), "start_s": round(took, 2)}


def decision(name: str, t_us: int) -> bytes:
    """A record with the bytes of a usual one."""
    reason = "volume: 13,204 of 20,000 matured labels since the run of 2013-02-15; " * 8
    baseline = Baseline(run="r" * 24, outcome="published", t_us=t_us, matured_labels=20_000)
    record = DecisionRecord(
        model=name, kind="evaluated", t_us=t_us, reason=reason, state=TriggerState(baseline=baseline)
    )
    return msgspec.json.encode(record)


def end(name: str, week: int) -> bytes:
    """The end of a run with a report of usual size."""
    ended = RunEnded(
        request_id=f"{name}-{week}",
        model=name,
        outcome="published",
        reason="auc 0.74 → 0.75",
        rule="volume",
        t_us=START_US + week * 7 * DAY_US,
        matured_labels=week * 1_000,
        gate={"report": "x" * 1_500},
    )
    return msgspec.json.encode(ended)


if __name__ == "__main__":
    print(json.dumps(tick(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))  # noqa: T201 - the parent reads it
