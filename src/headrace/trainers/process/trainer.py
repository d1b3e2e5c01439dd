"""The trainer process: a Faust app that evaluates triggers, and a thread that does training runs."""

from __future__ import annotations

import asyncio
import threading
import uuid
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import UNSET

from headrace.base.background_loop import BackgroundLoop
from headrace.base.times import Clock, wall_clock
from headrace.bus import check_report
from headrace.bus.control import ControlMessage, Tick, decode_control
from headrace.bus.control_topics import DEFAULT_NAMESPACE, ControlTopics
from headrace.bus.faust_shell import ThreadService, listen, run_shell, shell
from headrace.bus.process_status import ProcessProbes, status_served
from headrace.bus.producer import EventProducer
from headrace.bus.report_sender import HeartbeatSender, ReportSender, process_name
from headrace.bus.tail import TopicTail
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_report_topics, ensure_topics, grow_topic
from headrace.bus.worker_report import WorkerReport
from headrace.bus.worker_report import decode as decode_report
from headrace.event_log.event_log import EventLog
from headrace.models.artifact_places import places_with
from headrace.models.champion_alias import ChampionAliases
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.mlflow_registry import MlflowRegistry
from headrace.models.publication_signing import UNSIGNED, PublicationSigning
from headrace.trainers.data.exclusions import KafkaExclusions
from headrace.trainers.data.model_evidence import EvidenceSources
from headrace.trainers.process.cancelled_runs import CancellableFits, CancelledRuns
from headrace.trainers.process.drift_report import drift_report
from headrace.trainers.process.ended_runs import EndedRuns
from headrace.trainers.process.heard_requests import HeardRequest, HeardRequests
from headrace.trainers.process.last_decisions import last_decisions
from headrace.trainers.process.owned_partitions import OwnedPartitions
from headrace.trainers.process.runner_loop import RunnerLoop
from headrace.trainers.process.trainer_heartbeat import TrainerHeartbeats
from headrace.trainers.process.trainer_metrics import TrainerMetrics
from headrace.trainers.process.trigger_consumer import TriggerConsumer, TriggerOptions
from headrace.trainers.runs.fitting import FitLimits, FitPool
from headrace.trainers.runs.messages import RunEnded, decode
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.runs.operator_requests import decode as decode_operator
from headrace.trainers.runs.project_code import short_identity
from headrace.trainers.runs.shadow_fit import shadow_fits
from headrace.trainers.runs.training_runner import RunOptions, TrainingRunner

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.messages import DecisionRecord

_STOP_S = 2.0


logger = structlog.get_logger(__name__)
SHARES = 16
"""The partitions of the topic of retrain requests: as many trainers at most share the models."""


@dataclass(frozen=True)
class RegistryPlace:
    """The place of the model registry: the URI of MLflow, and the folder or URL of the artifacts."""

    uri: str
    artifacts: str


@dataclass(frozen=True)
class TrainerConfig:
    """The settings of a trainer: the places of its servers and data, and the options of its runs.

    ``tick_us`` is the time between two evaluations of the rules, on the wall clock or with ``stream_clock`` on the
    largest clock of a partition; with 0 they are evaluated only at the ticks on the control topic. ``metrics_port`` 0:
    neither metrics nor probes.
    """

    bootstrap_servers: str
    event_log: str
    registry: RegistryPlace
    data_dir: str
    namespace: str = DEFAULT_NAMESPACE
    signing: PublicationSigning = UNSIGNED
    tick_us: int = 0
    stream_clock: bool = False
    options: RunOptions = field(default_factory=RunOptions)
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    fit_limits: FitLimits = field(default_factory=FitLimits)

    @property
    def topics(self) -> ControlTopics:
        """The control topics of the namespace."""
        return ControlTopics(self.namespace)

    @property
    def evidence_sources(self) -> EvidenceSources:
        """Where rules get other models from: versions from the registry's place and no other, refits from a fit."""
        places, trusted = places_with([self.registry.artifacts], self.registry.uri), self.options.trusted
        fit = shadow_fits(FitPool(self.fit_limits), trusted, self.options.seed)
        return EvidenceSources(places, trusted, fit)


def make_topics(bootstrap_servers: str, topics: ControlTopics) -> None:
    """Make the topics of triggers and trainers. Decisions and runs are kept for ever."""
    kept = (topics.decisions, topics.retrain_requests, topics.operator_requests, topics.runs, topics.model_acks)
    plans = [TopicPlan(name, 1, FOR_EVER) for name in (*kept, topics.models)]
    ensure_topics(bootstrap_servers, [*plans, TopicPlan(topics.control)])
    ensure_report_topics(bootstrap_servers, topics.observations, heartbeats=topics.heartbeats, findings=topics.findings)
    grow_topic(bootstrap_servers, topics.retrain_requests, SHARES)
    ensure_topic(bootstrap_servers, topics.models)


class Trainer:
    """The parts of a trainer process. ``clock`` says when a heartbeat is late enough for the next tick."""

    def __init__(self, config: TrainerConfig, models: Sequence[Model], *, clock: Clock = wall_clock) -> None:
        self._config = config
        self._clock = clock
        self._models = models
        self._log = EventLog(config.event_log, namespace=config.namespace)
        self._producer = EventProducer(config.bootstrap_servers)
        self._findings = ReportSender(config.bootstrap_servers, config.topics.findings)
        servers, topics = config.bootstrap_servers, config.topics
        self.owned = OwnedPartitions()
        self.heartbeats = TrainerHeartbeats(process_name(), clock, config.tick_us)
        self.heartbeats.models = lambda: self._mine
        self.metrics = TrainerMetrics(self.owned.has, self.heartbeats.state)
        self._heard = HeardRequests(TopicTail(servers, [topics.operator_requests], from_beginning=True))
        self._cancelled = CancelledRuns(self._heard.known)
        model_events = KafkaModelEventLog(servers, topics.models, signing=config.signing)
        exclusions = KafkaExclusions(servers, topics.exclusions)
        self._triggers = TriggerConsumer(
            models,
            self._log,
            model_events,
            self._send,
            exclusions,
            options=TriggerOptions(
                self._recorded, config.options.trusted, owns=self._has, sources=config.evidence_sources
            ),
        )
        self._runs = EndedRuns(TopicTail(servers, [topics.runs], from_beginning=True))
        self._told = self._passed_on = 0
        self._mine: set[str] = set()
        self._next_tick_us = self._next_try_us = 0
        self._now_us: int | None = None
        self._busy = asyncio.Lock()
        self._registry: MlflowRegistry | None = None
        self._making_registry = threading.Lock()

    def _recorded(self, record: DecisionRecord) -> None:
        self.metrics.recorded(record)
        report = drift_report(record, by=self.heartbeats.process, at_us=self._clock())
        if report is not None:
            self._findings.send(report.key.encode(), check_report.encode(report))

    def _has(self, model: str) -> bool:
        """Return whether the model is this trainer's and its decisions were read. The group may give it at any time."""
        return model in self._mine and self.owned.has(model)

    def _tick(self, t_us: int) -> None:
        self._now_us = t_us
        self._read_on()
        self._triggers.tick(t_us)
        self.heartbeats.ticked()

    def _read_on(self) -> None:
        """Tell the triggers of models that are new here, of runs that have ended, and of what operators ask for."""
        heard = self._heard.known()
        self._take_over(heard)
        for run in self._runs.known()[self._told :]:
            self._triggers.run_ended(run)  # an error leaves it for the next tick
            self._told += 1
        for each in heard[self._passed_on :]:
            self._triggers.hear(each)
            self._passed_on += 1

    def _take_over(self, heard: Sequence[HeardRequest]) -> None:
        """Continue where the trainer has stopped that had a model before.

        A model that has runs or requests has a decision, however old it is.
        """
        mine = {model.name for model in self._models if self.owned.has(model.name)}
        new = mine - self._mine
        if new:
            servers, topic = self._config.bootstrap_servers, self._config.topics.decisions
            runs = [run for run in self._runs.known() if run.model in new]
            decided = {run.model for run in runs} | {each.request.model for each in heard}
            records = last_decisions(servers, topic, new, decided)
            self._mine = mine
            try:
                self._continue(new, records.values(), runs, heard[: self._passed_on])
            except BaseException:
                self._mine = mine - new  # the next tick takes them over
                raise
            logger.info("models taken over", models=sorted(new))
        self._mine = mine

    def _continue(
        self,
        new: set[str],
        records: Iterable[DecisionRecord],
        runs: Sequence[RunEnded],
        heard: Sequence[HeardRequest],
    ) -> None:
        """Tell the triggers of new models what was decided, ran and was asked before."""
        for model in new:
            self._triggers.forget(model)
        self._triggers.restore(records, runs)
        for each in heard:
            if each.request.model in new:
                self._triggers.hear(each)

    def _answer(self) -> None:
        """Answer operators now. Under an injected clock that has not ticked yet, the first tick answers them."""
        self._read_on()
        now_us = self._clock() if self._config.tick_us and not self._config.stream_clock else self._now_us
        if now_us is not None:
            self._triggers.answer(now_us)

    def _send(self, topic: str, key: bytes, value: bytes) -> None:
        self._producer.put(topic, key, value)
        self._producer.flush()

    async def on_control(self, message: ControlMessage) -> None:
        """Called for every message on the control topic. A tick of an injected clock evaluates the rules.

        A trainer whose clock is the wall's has no injected clock: it leaves ticks out.
        """
        if isinstance(message, Tick) and not self._config.tick_us:
            async with self._busy:
                await asyncio.to_thread(self._tick, message.t_us)

    async def on_heartbeat(self, report: WorkerReport) -> None:
        """Called for every report of a worker: rules are evaluated only while workers report.

        The rules judge the event log. If no worker writes to it, there is nothing new to judge. With a stream clock the
        report says what time it is. What could not be evaluated is tried again after ``tick_us`` of the wall clock,
        also if the stream stands still. What took longer than its tick is recorded as soon as it has ended.
        """
        wall_us, tick_us = self._clock(), self._config.tick_us
        now_us = max(stream_time(report), self._now_us or 0) if self._config.stream_clock else wall_us
        if not tick_us or not now_us:
            return
        if now_us >= self._next_tick_us or wall_us >= self._next_try_us or self._has_new():
            self._next_tick_us, self._next_try_us = now_us + tick_us, wall_us + tick_us
            async with self._busy:
                await asyncio.to_thread(self._tick, now_us)
        elif self._triggers.waits() or self._triggers.has_ended():
            async with self._busy:
                await asyncio.to_thread(self._go_on, now_us)

    def _go_on(self, t_us: int) -> None:
        self._triggers.answer(t_us)
        self._triggers.finish(t_us)

    def _has_new(self) -> bool:
        return any(self.owned.has(model.name) and model.name not in self._mine for model in self._models)

    async def on_operator(self, _: OperatorRequest) -> None:
        """Called for every request of an operator. If it fails, the next tick answers it."""
        async with self._busy:
            await asyncio.to_thread(self._answer)

    async def on_run(self, run: RunEnded) -> None:
        """Called for the end of every run. If it fails, the next tick tells the triggers of this run."""
        async with self._busy:
            if run.model in self._mine:
                await asyncio.to_thread(self._triggers.run_ended, run)

    def runners(self) -> dict[str, TrainingRunner]:
        """Make a runner for each model. It is called in the runner's thread, because MLflow takes seconds to import."""
        config = self._config
        registry = self._made_registry()
        pool = CancellableFits(FitPool(config.fit_limits), self._cancelled)
        model_events = KafkaModelEventLog(config.bootstrap_servers, config.topics.models, signing=config.signing)
        exclusions = KafkaExclusions(config.bootstrap_servers, config.topics.exclusions)
        clock = self._clock if config.tick_us else None  # an injected clock stands still during a run
        return {
            model.name: TrainingRunner(
                model,
                self._log,
                model_events,
                registry,
                pool,
                options=replace(
                    config.options,
                    ended=self._runs.known,
                    cancelled=self._cancelled.why,
                    clock=clock,
                    watch=self.heartbeats,
                ),
                exclusions=exclusions,
            )
            for model in self._models
        }

    def _made_registry(self) -> MlflowRegistry:
        """Return the one registry of this process: it makes its tables when it is made."""
        with self._making_registry:
            if self._registry is None:
                self._registry = MlflowRegistry(self._config.registry.uri, self._config.registry.artifacts)
            return self._registry

    def aliases(self) -> BackgroundLoop:
        """Make the loop that keeps the registry's aliases in step with the model events, whoever writes them."""
        config = self._config
        log = KafkaModelEventLog(config.bootstrap_servers, config.topics.models, signing=config.signing)
        aliases = ChampionAliases(log, self._made_registry, [model.name for model in self._models])
        return BackgroundLoop("champion aliases", lambda: aliases.mend("1s"))

    def loop(self) -> RunnerLoop:
        """Make the loop that answers retrain requests."""
        config, topic = self._config, self._config.topics.runs
        producer = EventProducer(config.bootstrap_servers)

        codes = {model.name: short_identity(model, config.options.trusted) for model in self._models}

        def answer(finished: RunEnded) -> None:
            if finished.outcome == "failed":
                finished = msgspec.structs.replace(finished, code=codes.get(finished.model, UNSET))
            producer.put(topic, finished.model.encode(), msgspec.json.encode(finished))
            producer.flush()

        loop = RunnerLoop(
            config.bootstrap_servers,
            config.namespace,
            self.runners,
            answer,
            ended=self._runs.find,
            owned=self.owned,
            cancelled=self._cancelled,
        )
        self.heartbeats.waiting = loop.waiting
        return loop


def stream_time(report: WorkerReport) -> int:
    """Return the largest clock of a view in a worker's report, or of a partition if it has no views; 0 for none."""
    views = [view.clock_us for each in report.partitions for view in each.views.values()]
    return max(views or [each.available_us for each in report.partitions], default=0)


def run_trainer(config: TrainerConfig, models: Sequence[Model]) -> None:
    """Run until a signal arrives."""
    servers, topics = config.bootstrap_servers, config.topics
    make_topics(servers, topics)
    trainer = Trainer(config, models)
    loop, aliases = trainer.loop(), trainer.aliases()
    said = trainer.heartbeats
    sender = HeartbeatSender(ReportSender(servers, topics.heartbeats), said.process, said.state)
    said.changed = sender.beat
    app = shell(f"{config.namespace}-trainer-{uuid.uuid4().hex[:8]}", config.data_dir)
    listen(app, servers, topics.control, decode_control, trainer.on_control)
    listen(app, servers, topics.observations, decode_report, trainer.on_heartbeat)
    listen(app, servers, topics.operator_requests, decode_operator, trainer.on_operator)
    listen(app, servers, topics.runs, lambda value: decode(value, RunEnded), trainer.on_run)
    probes = ProcessProbes(loop.pulse.problem)
    with status_served(trainer.metrics.registry, config.metrics_host, config.metrics_port, probes):
        aliases.start()
        sender.start()
        try:
            run_shell(app, ThreadService(loop.run, loop.stop))
        finally:
            aliases.stop(_STOP_S)
            sender.stop()
