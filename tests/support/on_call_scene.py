"""The scene of the page for persons on call: the first 75 days of the demo, with all its processes."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil

from headrace.app.demo.demo import APPLICATION
from headrace.app.local.process import GuardedProcess
from tests.support.console_page import HEADRACE
from tests.support.documents import ROOT
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

DAYS = 75
"""Version 1 is live on day 26, version 2 near day 70."""
_START_S = 180.0


@dataclass(frozen=True)
class OnCallScene:
    """The environment of the commands, and the process of the trainer."""

    environment: Mapping[str, str]
    trainer: int

    def hold_fits(self) -> None:
        """Let no fit of the trainer begin, so that a run stays open; everything else of the trainer goes on."""
        for server in self._fork_servers():
            server.suspend()

    def release_fits(self) -> None:
        """Let fits begin again."""
        for server in self._fork_servers():
            server.resume()

    def _fork_servers(self) -> list[psutil.Process]:
        children = psutil.Process(self.trainer).children()
        found = [child for child in children if "multiprocessing.forkserver" in " ".join(child.cmdline())]
        assert found, [child.cmdline() for child in children]
        return found


@contextmanager
def on_call_scene(data: Path) -> Iterator[OnCallScene]:
    """Run services and processes on the data folder of a demo."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment = own | {"HEADRACE_DATA_DIR": str(data), "NO_COLOR": "1"}
    stream = environment | {"HEADRACE_CLOCK": "stream", "POLARS_MAX_THREADS": "1"}
    with ExitStack() as running:

        def start(name: str, arguments: tuple[str, ...], variables: Mapping[str, str], ready: str) -> int:
            log = data / "logs" / f"on-call-{name}.log"
            command = ["env", "-i", *(f"{key}={value}" for key, value in variables.items()), *HEADRACE, *arguments]
            process = GuardedProcess(command, log, grace_seconds=20, folder=ROOT)
            running.callback(process.stop)
            until(lambda: ready in log.read_text() or not process.running, _START_S, log.read_text)
            assert process.running, log.read_text()[-3000:]
            return process.pid

        start("up", ("up",), environment, "ready; Ctrl-C")
        start("worker", ("worker", "--replay"), stream, "partition opened")
        start("application", ("score", "delay", "--application", APPLICATION), stream, "application starts")
        trainer = start("trainer", ("trainer",), stream, "models taken over")
        yield OnCallScene(environment, trainer)
