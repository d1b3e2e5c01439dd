"""From a retrain request on the bus to its version live in an application: a real trainer, a real application."""

from __future__ import annotations

import json
import sys
import threading
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from sklearn.linear_model import LogisticRegression

from headrace import Count, Entity, FeatureService, FeatureView, Gate, Label, Model, Stream, col, volume
from headrace.base.times import utc_datetime
from headrace.bus.control import Tick
from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.models.predictions import Prediction, predictions_of, vectors_of
from headrace.serving import Predictor, ServerAddresses
from headrace.streams.worker import publish_definitions
from headrace.trainers.process.trainer import RegistryPlace, TrainerConfig, make_topics, run_trainer
from headrace.trainers.runs.messages import RetrainRequest, RunEnded
from headrace.trainers.runs.operator_requests import OperatorRequest

from .requests import Asked, Came, append
from .rig import Child, console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

    from .options import Options
    from .rig import Rig

MODELS, VERSIONS, A_DAY, EACH_DAYS = 4, 6, 160, 15
DAY_US = 86_400_000_000
START_US = 20_000 * DAY_US
DAYS = EACH_DAYS * (VERSIONS + 1) + 2
PATIENCE_S, PAUSE_S = 240.0, 1.0
NEVER = 1_000_000_000
NOT_COUNTED = ("fit", "refit")
STEPS = ("training_set", "gate", "register", "publish")


asked = Stream("swap.asked", Asked, event_time="at")
came = Stream("swap.came", Came, event_time="at")
view = FeatureView("seen", entity=Entity("id", int), source=asked, windows=["1d"], features={"n": Count()})
service = FeatureService("swap", [view])


def train(X: Any, y: Any, run: Any) -> LogisticRegression:  # noqa: N803 - what everyone calls it
    """Fit something small."""
    return LogisticRegression(random_state=run.seed).fit(X, y)


def models() -> list[Model]:
    """Models that are trained only when a message asks for it."""
    return [
        Model(
            f"swap_{number}",
            requests=asked,
            request_key="id",
            requested_at="at",
            features=service,
            request_features=["amount"],
            label=Label(came, value=col("bad"), on="id", within="1d"),
            train=train,
            first_after=NEVER,
            cooldown="0s",
            triggers=volume(labels=NEVER),
            gate=Gate("auc", holdout="14d"),
            own_event="excluded",
        )
        for number in range(MODELS)
    ]


@dataclass(frozen=True)
class TrainerTask:
    """What the trainer's process is given."""

    servers: str
    folder: str
    namespace: str


@dataclass(frozen=True)
class Swap:
    """One run: the times of its message, its request, its model event and the swap, and the seconds of its steps."""

    sent: float
    requested: float
    published: float
    swapped: float
    steps: dict[str, float]

    @property
    def beyond_fit(self) -> float:
        """Seconds from the request to the swap, without those of the fits."""
        return self.swapped - self.requested - sum(self.steps.get(name, 0.0) for name in NOT_COUNTED)

    @property
    def parts(self) -> dict[str, float]:
        """The seconds of each step that counts, of the application after the model event, and of all that is left."""
        found = {name: self.steps.get(name, 0.0) for name in STEPS} | {"application": self.swapped - self.published}
        return found | {"rest": self.beyond_fit - sum(found.values())}


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Each model has one version after the other; the others stand still."""
    del options
    name = f"swap{uuid.uuid4().hex[:10]}"
    folder = rig.folder / name
    with console.status("making the log"):
        write(EventLog(str(folder / "log"), namespace=name))
    make_topics(rig.servers, ControlTopics(name))
    topics = ControlTopics(name)
    ensure_topics(rig.servers, [TopicPlan(topic) for topic in (topics.vectors, topics.predictions)])
    publish_definitions(RedisOnlineStore(rig.redis_url, name), [view], [service])
    child = Child(TrainerTask(rig.servers, str(folder), name), module="benchmarks.swap")
    try:
        found = swaps(rig, name, str(folder / "artifacts"), child)
    finally:
        child.stop()
    result = report(found)
    console.print(f"  {result}")
    return result


def swaps(rig: Rig, namespace: str, artifacts: str, child: Child) -> list[Swap]:
    """Ask for one run after the other, and watch the application's predictor."""
    topics, servers = ControlTopics(namespace), rig.servers
    where = ServerAddresses(servers, rig.redis_url, namespace, artifact_places=[artifacts])
    watched = [topics.decisions, topics.retrain_requests, topics.models, topics.runs]
    found = []
    with ExitStack() as stack:
        tail = Records(TopicTail(servers, watched, from_beginning=True), topics)
        stack.callback(tail.stop)
        predictors = {m.name: stack.enter_context(Predictor(m.name, where, application="swap")) for m in models()}
        producer = EventProducer(servers)
        await_trainer(producer, topics, tail, child)
        for version in range(1, VERSIONS + 1):
            tick = msgspec.json.encode(Tick(START_US + (EACH_DAYS * (version + 1) - 5) * DAY_US))
            for name, predictor in predictors.items():
                child.check()
                producer.put(topics.control, None, tick)
                producer.flush()
                time.sleep(PAUSE_S)  # the tick is heard, and the end of the run before this one
                sent = time.time()
                producer.put(topics.operator_requests, name.encode(), message(name))
                producer.flush()
                swapped = await_version(predictor, version, child)
                found.append(tail.swap(name, version, sent, swapped))
    return found


def await_trainer(producer: EventProducer, topics: ControlTopics, tail: Records, child: Child) -> None:
    """Tick until the trainer has decided on each model: it hears the ticks that come after its start."""
    until = time.monotonic() + PATIENCE_S
    while len(tail.decided) < MODELS:
        child.check()
        if time.monotonic() > until:
            raise RuntimeError(f"the trainer has decided on {tail.decided} only after {PATIENCE_S:.0f} s")
        producer.put(topics.control, None, msgspec.json.encode(Tick(time_of_a_wait(until))))
        producer.flush()
        time.sleep(PAUSE_S)


def time_of_a_wait(until: float) -> int:
    """A time before the first request that rises with each call."""
    return START_US + round(PATIENCE_S - (until - time.monotonic()))


def await_version(predictor: Predictor, version: int, child: Child) -> float:
    """Return the time at which the application has the version."""
    until = time.monotonic() + PATIENCE_S
    while predictor.live is None or predictor.live.version != version:
        child.check()
        if time.monotonic() > until:
            raise RuntimeError(f"version {version} is not live after {PATIENCE_S:.0f} s: {predictor.status}")
        time.sleep(0.002)
    return time.time()


def message(model: str) -> bytes:
    """Ask for a run, as any program may."""
    return msgspec.json.encode(
        OperatorRequest(id=uuid.uuid4().hex, model=model, action="train", by="benchmark", reason="swap", at_us=0)
    )


class Records:
    """What the trainer has written, with the time of each record."""

    def __init__(self, tail: TopicTail, topics: ControlTopics) -> None:
        self._tail, self._topics = tail, topics
        self._requests: dict[str, float] = {}
        self._ends: dict[tuple[str, int], RunEnded] = {}
        self._events: dict[tuple[str, int], float] = {}
        self.decided: set[str] = set()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        while not self._stopping.is_set():
            for record in self._tail.poll(0.2):
                self._keep(record)

    def _keep(self, record: Message) -> None:
        at, value = record.timestamp()[1] / 1_000, record.value() or b""
        if record.topic() == self._topics.decisions:
            self.decided.add((record.key() or b"").decode())
        elif record.topic() == self._topics.retrain_requests:
            self._requests.setdefault(msgspec.json.decode(value, type=RetrainRequest).request_id, at)
        elif record.topic() == self._topics.runs:
            end = msgspec.json.decode(value, type=RunEnded)
            self._ends[end.model, end.version or 0] = end
        else:
            self._events[(record.key() or b"").decode(), msgspec.json.decode(value)["version"]] = at

    def swap(self, model: str, version: int, sent: float, swapped: float) -> Swap:
        """Return the run that made a version."""
        until = time.monotonic() + PATIENCE_S
        while (model, version) not in self._ends:
            if time.monotonic() > until:
                raise RuntimeError(f"no end of the run of {model} version {version}: {self._ends}")
            time.sleep(0.01)
        end = self._ends[model, version]
        return Swap(sent, self._requests[end.request_id], self._events[model, version], swapped, dict(end.seconds))

    def stop(self) -> None:
        """End the thread and its connections."""
        self._stopping.set()
        self._thread.join()
        self._tail.close()


def report(found: Sequence[Swap]) -> dict[str, Any]:
    """The seconds beyond the fit, and the share of each part in all of them."""
    beyond, fits = [swap.beyond_fit for swap in found], [swap.steps["fit"] + swap.steps["refit"] for swap in found]
    p50, p95, most = np.quantile(beyond, [0.5, 0.95, 1.0]).tolist()
    parts = {
        name: {
            "p50_s": round(float(np.median([swap.parts[name] for swap in found])), 3),
            "p95_s": round(float(np.quantile([swap.parts[name] for swap in found], 0.95)), 3),
            "share": round(sum(swap.parts[name] for swap in found) / sum(beyond), 3),
        }
        for name in found[0].parts
    }
    return {
        "runs": len(found),
        "rows": DAYS * A_DAY,
        "p50_s": round(p50, 3),
        "p95_s": round(p95, 3),
        "max_s": round(most, 3),
        "fits_p50_s": round(float(np.median(fits)), 3),
        "message_to_request_p50_s": round(float(np.median([swap.requested - swap.sent for swap in found])), 3),
        "parts": parts,
    }


def write(log: EventLog) -> None:
    """Requests, their labels half a day later, and poor predictions of each version."""
    rng = np.random.default_rng(5)
    times = np.sort(rng.integers(START_US, START_US + DAYS * DAY_US, DAYS * A_DAY)).tolist()
    rows = [Asked(n, utc_datetime(at), float(rng.normal())) for n, at in enumerate(times)]
    bad = [bool(rng.random() < 1 / (1 + np.exp(-2 * row.amount))) for row in rows]
    labels = [Came(row.id, utc_datetime(at + DAY_US // 2), bad[row.id]) for row, at in zip(rows, times, strict=True)]
    append(log, asked, rows, times)
    append(log, came, labels, [at + DAY_US // 2 for at in times])
    log.create(vectors_of(log.namespace))
    told = [each for model in models() for each in answers(model.name, rows, times)]
    append(log, predictions_of(log.namespace), told, [round(each.served_at.timestamp() * 1e6) for each in told])


def answers(model: str, rows: Sequence[Asked], times: Sequence[int]) -> list[Prediction]:
    """The contrary of the truth, by the version that was live."""
    found = []
    for row, at in zip(rows, times, strict=True):
        version = ((at - START_US) // DAY_US + 6) // EACH_DAYS - 1
        if version >= 1:
            found.append(
                Prediction(
                    prediction_id=f"{model}-{row.id}",
                    vector_id=str(row.id),
                    model=model,
                    version=version,
                    role="live",
                    key=str(row.id),
                    requested_at=row.at,
                    served_at=row.at,
                    score=float(1 / (1 + np.exp(row.amount))),
                )
            )
    return found


def main(task: TrainerTask) -> None:
    """The trainer's process: as `headrace trainer` runs it."""
    registry = RegistryPlace(f"sqlite:///{task.folder}/mlflow.db", f"file://{task.folder}/artifacts")
    config = TrainerConfig(
        task.servers, f"{task.folder}/log", registry, f"{task.folder}/faust", namespace=task.namespace
    )
    run_trainer(config, models())


if __name__ == "__main__":
    main(TrainerTask(**json.loads(sys.argv[1])))
