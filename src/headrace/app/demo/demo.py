"""Runs the demo: services, processes, replay, audit, report."""

from __future__ import annotations

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.app.demo import chart
from headrace.app.demo.barrier import Barriers, BarrierWait, ControlTails, ReplayedTopics
from headrace.app.demo.driver import FreeRun, Lockstep, ReplayParts, ReplayTally
from headrace.app.demo.history import FirstDays
from headrace.app.demo.processes import Processes
from headrace.app.demo.report import build_report
from headrace.app.demo.screen import final_screen
from headrace.app.demo.state import DemoState
from headrace.app.demo.view import DemoView
from headrace.app.local.lock import make_private, running
from headrace.app.local.services import LocalServices
from headrace.app.project.project import Project, load_project
from headrace.app.project.settings_sources import load_settings
from headrace.app.project.template import template_folder
from headrace.base.redaction import revealed
from headrace.bus.kafka_clients import admin
from headrace.bus.producer import EventProducer
from headrace.bus.source_partition import SourcePartition
from headrace.bus.tail import TopicTail
from headrace.bus.topics import incarnations
from headrace.errors import DataFolderInUseError, ProjectError, SettingsError
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.server_addresses import find_project_file
from headrace.streams.worker import make_topics, own_streams
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.process import trainer
from headrace.trainers.triggers.evidence import DAY_US

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from headrace.app.demo.history import History
    from headrace.app.project.settings import Settings
    from headrace.trainers.definitions import Model

APPLICATION = "demo"
_MARKER = "made-by-headrace-demo"


@dataclass(frozen=True)
class DemoOptions:
    """The options of a demo. ``folder`` is emptied first. Report and chart go to ``output``. None: use the settings.

    ``source`` gives the history of a project; None: the function that the setting ``demo.source`` names. ``name`` is
    that of the command, which is also in the names of report and chart.
    """

    folder: Path
    output: Path
    months: int | None = None
    seed: int | None = None
    days: int | None = None
    free_run: bool = False
    days_per_second: float = 1.0
    source: Callable[[Project], History] | None = None
    name: str = "demo"


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run the demo and return its report. It replays the project of the working directory, else the flights."""
    started = time.monotonic()
    prepare(options.folder)
    root = find_root()
    flags = {
        "data_dir": options.folder,
        "event_log": "{data_dir}/events",  # the demo's own, whatever the project has
        "registry_uri": "sqlite:///{data_dir}/registry/mlflow.db",
        "artifacts": "{data_dir}/artifacts",
        "demo.months": options.months,
        "demo.seed": options.seed,
        "clock": "control",
    }
    settings = load_settings(flags, folder=root)
    with ExitStack() as stack:
        services = LocalServices(options.folder)
        stack.callback(services.stop)
        starting = stack.enter_context(ThreadPoolExecutor(1)).submit(services.start)  # while project and history load
        project = load_project(settings)
        history = _history(settings, project, options)
        mode = "free run" if options.free_run else "lockstep"
        state = DemoState(mode, history.from_us, history.to_us, name=options.name)
        view = stack.enter_context(DemoView(state, console))
        _enter(state, view, "starting Kafka and Valkey")
        starting.result()
        addresses = {"bootstrap_servers": services.bootstrap_servers, "redis_url": services.redis_url}
        settings = load_settings(flags | addresses, folder=root).model_copy(update={"kafka": {}})  # its own Kafka
        stage = DemoStage(settings, project, history, state, view.refresh)
        environment = _environment(settings, flush="1s" if options.free_run else "30s")  # the barriers ask for more
        with Processes(options.folder / "logs", root, environment) as processes:
            tally = stage.free_run(processes, options) if options.free_run else stage.lockstep(processes)
        _enter(state, view, "auditing every served vector")
        report, curves = build_report(settings, project, stage.model, history, tally)
    report["seconds"] = round(time.monotonic() - started, 1)
    _write(options, report, curves, tally)
    final_screen(report, console, options.name)
    return report


def prepare(folder: Path) -> None:
    """Empty the folder. Raises SettingsError if it has other files, DataFolderInUseError while a demo uses it."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).exists():
        raise SettingsError(
            f"the demo empties its data folder, and {folder} holds what no demo made: choose another --data-dir"
        )
    if running(folder) is not None:
        raise DataFolderInUseError(f"services run on {folder}: stop that demo first, or choose another --data-dir")
    shutil.rmtree(folder, ignore_errors=True)
    make_private(folder)
    (folder / _MARKER).touch()


def find_root() -> Path:
    """Return the folder of the nearest headrace.toml, else the folder of the flights project."""
    file = find_project_file(Path.cwd())
    return template_folder() if file is None else file.parent


def _enter(state: DemoState, view: DemoView, phase: str) -> None:
    state.phase = phase
    view.refresh()


def _history(settings: Settings, project: Project, options: DemoOptions) -> History:
    if options.source is not None:
        made = options.source(project)
    else:
        module, _, function = settings.demo.source.partition(":")
        made = getattr(import_module(module), function)(settings.demo.months)
    return made if options.days is None else FirstDays(made, options.days)


def _environment(settings: Settings, *, flush: str) -> dict[str, str]:
    return {
        "HEADRACE_DATA_DIR": str(settings.data_dir),
        "HEADRACE_BOOTSTRAP_SERVERS": str(settings.bootstrap_servers),
        "HEADRACE_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",  # whatever the project's own Kafka wants
        "HEADRACE_REDIS_URL": revealed(settings.redis_url or ""),
        "HEADRACE_EVENT_LOG": settings.event_log,
        "HEADRACE_REGISTRY_URI": revealed(settings.registry_uri),
        "HEADRACE_ARTIFACTS": settings.artifacts,
        "HEADRACE_CLOCK": settings.clock,
        "HEADRACE_FLUSH_INTERVAL": flush,
        "HEADRACE_HEARTBEAT_BOUND": "60s",  # two cores, five processes
        "POLARS_MAX_THREADS": "1",  # cores are few
    }


def _write(options: DemoOptions, report: dict[str, Any], curves: Any, tally: ReplayTally) -> None:
    options.output.mkdir(parents=True, exist_ok=True)
    content = msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    (options.output / f"{options.name}-report.json").write_bytes(content)
    days, live, frozen = curves
    swapped = [(version, at // DAY_US) for version, at in tally.swapped.items()]
    chart.draw(options.output / f"{options.name}-auc.png", days, live, frozen, swapped)


class DemoStage:
    """The services and processes that a replay needs."""

    def __init__(
        self, settings: Settings, project: Project, history: History, state: DemoState, refresh: Callable[[], None]
    ) -> None:
        self._settings, self._project, self._history = settings, project, history
        self._state, self._refresh = state, refresh
        self._servers = str(settings.bootstrap_servers)
        self._log = EventLog(settings.event_log, namespace=settings.namespace)
        if len(project.models) != 1:
            raise ProjectError(f"the demo replays one model; the project has {sorted(project.models) or 'none'}")
        self.model: Model = next(iter(project.models.values()))
        if self.model.label.predicts.name != "binary":
            raise ProjectError(
                f"the demo reports AUC and log-loss, and the task of {self.model.name!r} is "
                f"{self.model.label.predicts.name!r}: give it a model whose label is true or false"
            )

    def lockstep(self, processes: Processes) -> ReplayTally:
        """Replay in lockstep with a worker, a trainer and an application."""
        self._topics(1)
        processes.start("worker", "worker", "--replay")
        application = processes.start_lockstep(*self._score(), "--lockstep")
        # Its first tick is a day away. While it fits all others wait: measured, two threads then take 0.6 of the time,
        # where on a busy core, as in a free run, one alone is quicker than with a partner to wait for.
        processes.start("trainer", "trainer", "--seed", str(self._settings.demo.seed), threads=2)
        return Lockstep(self._cast(processes), application).run()

    def free_run(self, processes: Processes, options: DemoOptions) -> ReplayTally:
        """Replay at a pace with two workers, a trainer and an application. One worker is killed."""
        self._topics(4)
        for name in ("worker", "worker-2"):
            processes.start(name, "worker", "--replay")
        processes.start("trainer", "trainer", "--seed", str(self._settings.demo.seed))
        processes.start("application", *self._score())
        return FreeRun(
            self._cast(processes),
            days_per_second=options.days_per_second,
            disturb=lambda: processes.kill("worker-2"),
        ).run()

    def _score(self) -> list[str]:
        return ["score", self.model.name, "--shadow-first", "--application", APPLICATION]

    def _topics(self, partitions: int) -> None:
        streams = list(self._project.streams.values())
        make_topics(self._servers, streams, partitions, namespace=self._settings.namespace, replay=True)
        trainer.make_topics(self._servers, self._settings.topics)

    def _cast(self, processes: Processes) -> ReplayParts:
        self._state.phase = "starting worker, trainer and application"
        self._refresh()
        barriers = self._barriers(processes.check)
        barriers.wait_until_ready()
        self._state.phase = "replaying"
        return ReplayParts(
            self._history,
            self.model,
            EventProducer(self._servers, linger="5ms"),
            barriers,
            TopicTail(self._servers, [self._settings.topics.runs], from_beginning=False),
            ModelLog(self.model, self._log),
            self._state,
            self._refresh,
            self._settings.topics,
        )

    def _barriers(self, check: Callable[[], None]) -> Barriers:
        client, control = admin(self._servers), self._settings.topics
        streams = own_streams(list(self._project.streams.values()), self._settings.namespace)
        found = incarnations(client, [stream.topic for stream in streams])
        return Barriers(
            RedisOnlineStore(self._settings.redis_url or "", self._settings.namespace),
            self._log,
            EventProducer(self._servers, linger="5ms"),
            tails=ControlTails(
                TopicTail(self._servers, [control.decisions], from_beginning=False),
                TopicTail(self._servers, [control.model_acks], from_beginning=False),
            ),
            topics=ReplayedTopics(
                {
                    stream.topic: [f"{v.name}@{v.version}" for v in self._project.views.values() if v.source is stream]
                    for stream in streams
                },
                {
                    topic: [SourcePartition(number, incarnation.topic_id) for number in range(incarnation.partitions)]
                    for topic, incarnation in found.items()
                },
            ),
            wait=BarrierWait(check, self._refresh),
        )
