"""The scene of the page for persons on call: the first 75 days of the demo, with all its processes."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

from headrace.app.demo.demo import APPLICATION
from headrace.app.local.process import GuardedProcess
from tests.support.console_page import HEADRACE
from tests.support.documents import ROOT
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

DAYS = 75
"""Version 1 is live on day 26, version 2 near day 70."""
OF_STREAM = {"HEADRACE_CLOCK": "stream", "POLARS_MAX_THREADS": "1"}
_START_S = 180.0


@dataclass
class OnCallScene:
    """The processes of the scene, by name. ``environment`` is that of the commands."""

    data: Path
    environment: Mapping[str, str]
    running: ExitStack
    processes: dict[str, GuardedProcess] = field(default_factory=dict)

    def start(self, name: str, arguments: Sequence[str], ready: str, **variables: str) -> None:
        """Start a command of headrace, and wait until its log says that it is ready."""
        log = self.data / "logs" / f"on-call-{name}.log"
        environment = {**self.environment, **variables}
        command = ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), *HEADRACE, *arguments]
        process = self.processes[name] = GuardedProcess(command, log, grace_seconds=20, folder=ROOT)
        self.running.callback(process.stop)
        until(lambda: ready in log.read_text() or not process.running, _START_S, log.read_text)
        assert process.running, log.read_text()[-3000:]

    def hold_fits(self) -> None:
        """Let no fit of the trainer begin, so that a run stays open; everything else of the trainer goes on."""
        for server in self._fork_servers():
            server.suspend()

    def release_fits(self) -> None:
        """Let fits begin again."""
        for server in self._fork_servers():
            server.resume()

    def said(self) -> str:
        """The last lines of each process, if something takes too long."""
        logs = sorted((self.data / "logs").glob("on-call-*.log"))
        return "".join(f"\n== {log.name}\n{log.read_text()[-2000:]}" for log in logs)

    def _fork_servers(self) -> list[psutil.Process]:
        children = psutil.Process(self.processes["trainer"].pid).children()
        found = [child for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())]
        assert found, [child.cmdline() for child in children]
        return found


@contextmanager
def on_call_scene(data: Path) -> Iterator[OnCallScene]:
    """Run services and processes on the data folder of a demo."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment = own | {"HEADRACE_DATA_DIR": str(data), "NO_COLOR": "1"}
    with ExitStack() as running:
        scene = OnCallScene(data, environment, running)
        scene.start("up", ("up",), "ready; Ctrl-C")
        scene.start("worker", ("worker", "--replay"), "partition opened", **OF_STREAM)
        scene.start("application", ("score", "delay", "--application", APPLICATION), "application starts", **OF_STREAM)
        before = decisions(environment)
        scene.start("trainer", ("trainer",), "models taken over", **OF_STREAM)
        until(lambda: decisions(environment) != before, 2 * _START_S, scene.said)  # its first evaluation takes a while
        yield scene


def decisions(environment: Mapping[str, str]) -> str:
    """What the command says about the last decisions."""
    done = subprocess.run(
        [*HEADRACE, "triggers", "list"], cwd=ROOT, env=dict(environment), capture_output=True, text=True, check=False
    )
    return done.stdout
