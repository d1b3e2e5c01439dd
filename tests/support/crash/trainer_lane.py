"""Two trainers that share the models of one namespace, a clock that the test moves, and what they wrote."""

from __future__ import annotations

import shutil
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from headrace.bus.control import Tick
from headrace.bus.control_topics import ControlTopics
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.event_log.event_log import EventLog
from headrace.models.kafka_model_event_log import KafkaModelEventLog
from headrace.models.mlflow_registry import MlflowRegistry
from headrace.models.model_state import fold_all
from headrace.trainers.process.trainer import make_topics
from headrace.trainers.runs.messages import RunEnded, decode
from tests.support.crash.trained_models import WAVES, trained_models, write_log
from tests.support.crash.trainer_process import TrainerSetting, train
from tests.support.crash.worker import Worker
from tests.support.orders_model import day
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.models.model_state import ModelState

TRAINERS = 2
_EACH_TICK_S = 1.0
_SECOND_US = 1_000_000


@dataclass
class TrainerLane:
    """``deck``: for each wave, at most those of :data:`WAVES`, the steps at which trainers die, one after the other."""

    bootstrap_servers: str
    namespace: str
    folder: Path
    models: int
    deck: Sequence[Sequence[str]]
    trainers: list[Worker] = field(default_factory=list)
    deaths: Counter[str] = field(default_factory=Counter)
    alone_s: list[float] = field(default_factory=list)
    """The seconds for which one trainer worked alone after the other's death, until it had done all that was left."""
    _started: int = 0

    def __post_init__(self) -> None:
        self.topics = ControlTopics(self.namespace)
        self.names = [model.name for model in trained_models(self.models)]
        self._uri = f"sqlite:///{self.folder}/mlflow.db"
        self._producer = EventProducer(self.bootstrap_servers)
        self._ends: dict[str, RunEnded] = {}
        self._ticked_us = 0

    def prepare(self, registry: Path) -> None:
        """Write the log, copy an empty registry, and make the topics."""
        self.folder.mkdir(parents=True)
        shutil.copy(registry, self.folder / "mlflow.db")
        write_log(EventLog(self.folder / "log", namespace=self.namespace), trained_models(self.models))
        make_topics(self.bootstrap_servers, self.topics)
        self._runs = TopicTail(self.bootstrap_servers, [self.topics.runs], from_beginning=True)

    def start(self) -> None:
        """Start trainers until there are two."""
        while len(self.trainers) < TRAINERS:
            self._started += 1
            setting = TrainerSetting(
                self.bootstrap_servers,
                str(self.folder / "log"),
                self._uri,
                str(self.folder),
                self.namespace,
                self.models,
                str(self.folder / f"trainer-{self._started}.txt"),
            )
            self.trainers.append(Worker(setting, train))

    def play(self) -> None:
        """Every wave: each model asks for a run, and trainers die at the steps of the deck until all have ended."""
        self.start()
        for number, steps in enumerate(self.deck):
            for step in steps[:-1]:
                self._die(step, number)
                self.start()
            self._die(steps[-1], number)
            self._await_wave(number)
            self.start()

    def _die(self, step: str, wave: int) -> None:
        """Arm both trainers, and wait until one of them has died. What the other one was armed for is taken back."""
        for trainer in self.trainers:
            trainer.arm(f"{step}:1")
        self._until(lambda: not all(trainer.is_alive() for trainer in self.trainers), wave, step)
        for trainer in self.trainers:
            trainer.arm(None)
        time.sleep(0.1)  # what the other one was about to do may still kill it
        for trainer in [each for each in self.trainers if not each.is_alive()]:
            assert trainer.exitcode == -9, (step, trainer.exitcode, trainer.output)
            self.trainers.remove(trainer)
            self.deaths[step] += 1

    def _await_wave(self, wave: int) -> None:
        """Let the trainers that are left do what is left to do."""
        if not self.trainers:
            self.start()
        began = time.monotonic()
        self._until(lambda: all(count > wave for count in self._published().values()), wave, "the end of a wave")
        self.alone_s.append(time.monotonic() - began)

    def _until(self, holds: object, wave: int, what: str) -> None:
        """Wait, and tick each second: who has just come has missed the ticks before."""
        next_s = 0.0

        def waited() -> bool:
            nonlocal next_s
            if time.monotonic() > next_s:
                next_s = time.monotonic() + _EACH_TICK_S
                self.tick(wave)
            return bool(holds())  # type: ignore[operator]

        until(waited, 240, lambda: (self.namespace, what, wave, self._published(), self.deaths, self.said()))

    def tick(self, wave: int) -> None:
        """A tick on the day of a wave, later than those before."""
        self._ticked_us = max(self._ticked_us + _SECOND_US, day(WAVES[wave]) + 3_600 * _SECOND_US)
        self._producer.put(self.topics.control, None, msgspec.json.encode(Tick(self._ticked_us)))
        self._producer.flush()

    def _published(self) -> Counter[str]:
        """The number of requests of each model that a run has answered with a version."""
        for record in self._runs.poll(0.0):
            run = decode(record.value(), RunEnded)
            self._ends.setdefault(run.request_id, run)
        found = Counter(run.model for run in self._ends.values() if run.outcome == "published")
        return Counter({name: found[name] for name in self.names})

    def said(self) -> list[str]:
        """The last lines that the trainers have said, if something takes too long."""
        return [
            line
            for number in range(max(1, self._started - 2), self._started + 1)
            for line in (self.folder / f"trainer-{number}.txt").read_text().splitlines()[-12:]
        ]

    # -- what they wrote --------------------------------------------------------------------------------------------

    def states(self) -> dict[str, ModelState]:
        """The fold of the model events."""
        with closing(KafkaModelEventLog(self.bootstrap_servers, self.topics.models)) as log:
            entries = log.read()
        return fold_all(entry.event for entry in entries if entry.event is not None)

    def registry(self) -> MlflowRegistry:
        """The registry of this lane."""
        return MlflowRegistry(self._uri, f"file://{self.folder}/artifacts")

    def close(self) -> None:
        """Kill what is left."""
        for trainer in self.trainers:
            trainer.kill()
