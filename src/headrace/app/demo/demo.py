"""The demo as a whole: services, processes, replay, audit, report."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.app.demo import chart
from headrace.app.demo.barrier import Barriers
from headrace.app.demo.driver import Lockstep, Tally
from headrace.app.demo.processes import Processes
from headrace.app.demo.report import build
from headrace.app.demo.screen import final_screen
from headrace.app.demo.state import DemoState
from headrace.app.demo.view import DemoView
from headrace.app.local.services import LocalServices
from headrace.app.project import Project, load_project
from headrace.app.settings_sources import load_settings
from headrace.app.template import template_folder
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import DECISIONS, RUNS, admin, incarnations
from headrace.features.log import EventLog
from headrace.features.online import Source
from headrace.features.redis_store import RedisOnlineStore
from headrace.models.predictions import PREDICTIONS, VECTORS
from headrace.streams.worker import make_topics
from headrace.trainers import trainer
from headrace.trainers.model_log import ModelLog
from headrace.trainers.observation import DAY_US

if TYPE_CHECKING:
    from rich.console import Console
    from pathlib import Path
    from collections.abc import Callable
    from headrace.app.demo.history import History
    from headrace.app.settings import Settings
    from headrace.trainers.definitions import Model

MODEL = "delay"
_HISTORY = "streams.history"


@dataclass(frozen=True)
class DemoOptions:
    """What to run. ``folder`` is emptied first; the report and the chart are written to ``output``."""

    months: int
    folder: Path
    output: Path
    seed: int = 0
    days: int | None = None


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run the demo in lockstep and return its report."""
    started = time.monotonic()
    shutil.rmtree(options.folder, ignore_errors=True)
    root = template_folder()
    base = load_settings({"data_dir": options.folder}, folder=root)
    project = load_project(base)
    history = _history(options)
    state = DemoState("lockstep", history.from_us, history.to_us)
    with DemoView(state, console) as view, LocalServices(options.folder) as services:
        state.phase = "starting worker, trainer and application"
        view.refresh()
        settings = load_settings(
            {
                "data_dir": options.folder,
                "bootstrap_servers": services.bootstrap_servers,
                "redis_url": services.redis_url,
                "clock": "control",
            },
            folder=root,
        )
        stage = _Stage(settings, project, history, options, state, view.refresh)
        with Processes(options.folder / "logs", root, _environment(settings)) as processes:
            tally = stage.play(processes)
        state.phase = "auditing every served vector"
        view.refresh()
        report, curves = build(settings, project, project.model(MODEL), history, tally, options.seed)
    report["seconds"] = round(time.monotonic() - started, 1)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "demo-report.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n"
    )
    versions = [
        (version["version"], tally.swapped[version["version"]] // DAY_US)
        for version in report["versions"]
        if version["version"] in tally.swapped
    ]
    chart.draw(options.output / "demo-auc.png", *curves, versions)
    final_screen(report, console)
    return report


def _history(options: DemoOptions) -> History:
    made: History = import_module(_HISTORY).history(options.months)
    return made if options.days is None else made.first_days(options.days)  # type: ignore[attr-defined]


def _environment(settings: Settings) -> dict[str, str]:
    return {
        "HEADRACE_DATA_DIR": str(settings.data_dir),
        "HEADRACE_BOOTSTRAP_SERVERS": str(settings.bootstrap_servers),
        "HEADRACE_REDIS_URL": str(settings.redis_url),
        "HEADRACE_CLOCK": "control",
        "HEADRACE_FLUSH_INTERVAL": "30s",
        "HEADRACE_HEARTBEAT_BOUND": "60s",
        "MALLOC_ARENA_MAX": "2",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


class _Stage:
    """Everything that a lockstep replay needs around it."""

    def __init__(
        self,
        settings: Settings,
        project: Project,
        history: History,
        options: DemoOptions,
        state: DemoState,
        refresh: Callable[[], None],
    ) -> None:
        self._settings, self._project, self._history = settings, project, history
        self._options, self._state, self._refresh = options, state, refresh
        self._servers = str(settings.bootstrap_servers)
        self._model: Model = project.model(MODEL)
        self._log = EventLog(settings.event_log)

    def play(self, processes: Processes) -> Tally:
        """Start the processes, replay the history through them."""
        make_topics(self._servers, list(self._project.streams.values()), partitions=1)
        trainer.make_topics(self._servers)
        processes.start("worker", "worker", "--partitions", "1")
        processes.start("trainer", "trainer", "--seed", str(self._options.seed))
        application = processes.start_lockstep("score", MODEL, "--lockstep", "--shadow-first", "--application", "demo")
        barriers = self._barriers(processes.check)
        self._wait_for_worker(barriers)
        self._state.phase = "replaying"
        lockstep = Lockstep(
            self._history,
            self._model,
            EventProducer(self._servers, linger_ms=0),
            barriers,
            application,
            TopicTail(self._servers, [RUNS], from_beginning=False),
            ModelLog(self._model, self._log),
            self._state,
            self._refresh,
        )
        tally = lockstep.run()
        barriers.logged(tally.produced)
        return tally

    def _wait_for_worker(self, barriers: Barriers) -> None:
        """The tables of the log are there, and every view has a cursor."""
        barriers.ready()

    def _barriers(self, check: Callable[[], None]) -> Barriers:
        streams = [*self._project.streams.values(), VECTORS, PREDICTIONS]
        found = incarnations(admin(self._servers), [stream.topic for stream in streams])
        views = {
            stream.topic: [f"{v.name}@{v.version}" for v in self._project.views.values() if v.source is stream]
            for stream in streams
        }
        sources = {
            topic: [Source(partition, incarnation.topic_id) for partition in range(incarnation.partitions)]
            for topic, incarnation in found.items()
        }
        store = RedisOnlineStore(str(self._settings.redis_url), self._settings.namespace)
        decisions = TopicTail(self._servers, [DECISIONS], from_beginning=False)
        return Barriers(store, self._log, EventProducer(self._servers, linger_ms=0), decisions, views, sources, check)
