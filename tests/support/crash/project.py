"""A project in a folder of its own, whose worker and trainer run as real commands that a test may kill."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

MODULE = """
from datetime import datetime
from headrace import Count, Entity, Event, FeatureService, FeatureView, Gate, Label, Model, Stream, Sum, col, volume

class Payment(Event):
    payment_id: int
    user: str
    cents: int
    at: datetime

class Verdict(Event):
    payment_id: int
    fraud: bool
    at: datetime

payments = Stream("{name}.payments", Payment, event_time="at", key="user")
verdicts = Stream("{name}.verdicts", Verdict, event_time="at", key="payment_id")
user = FeatureView("user", entity=Entity("user"), source=payments, windows=["1h"], features={{"n": Count(){more}}})
verdict = FeatureView(
    "verdict", entity=Entity("payment_id", int), source=verdicts, windows=["1h"], features={{"n": Count()}}
)
risk = FeatureService("risk", [user])
both = FeatureService("both", [user, verdict])

def train(X, y, run):
    raise ValueError("never called")

fraud = Model(
    "{name}", requests=payments, request_key="payment_id", requested_at="at", features=risk,
    request_features=["cents"], label=Label(verdicts, value=col("fraud"), on="payment_id", within="1h", missing=False),
    own_event="included", train=train, first_after=1_000_000, triggers=volume(labels=1_000_000),
    gate=Gate("auc", holdout="14d"),
)
"""
_RUN = [sys.executable, "-m", "headrace"]


@dataclass
class Command:
    """A command that runs, and the port on which it tells its state."""

    process: subprocess.Popen[bytes]
    port: int
    output: Path

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """As by kill -9."""
        self.process.kill()
        self.process.wait()

    def get(self, path: str) -> tuple[int, str]:
        """The answer to a probe; 0 if there is none."""
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except (OSError, HTTPException):
            return 0, ""

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's values that have these labels; 0 if there are none."""
        families = text_string_to_metric_families(self.get("metrics")[1])
        samples = [each for family in families for each in family.samples if each.name == name]
        return sum(each.value for each in samples if labels.items() <= each.labels.items())


@dataclass
class ProjectScene:
    """The folder, and the servers that its commands use. ``name`` is its namespace.

    Its streams begin with ``prefix``, which is also the model's name: the namespace, unless two share their streams.
    """

    services: LocalServices
    name: str
    folder: Path
    prefix: str = ""
    running: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:
        modules = f'streams = ["m{self.name}"]\nfeatures = []\ntrainers = []\n'
        settings = f'namespace = "{self.name}"\ntick = "1s"\n'
        (self.folder / "headrace.toml").write_text(f"{settings}[project]\n{modules}")
        self.define()

    def define(self, more: str = "") -> None:
        """Write the definitions; ``more`` features of the view."""
        (self.folder / f"m{self.name}.py").write_text(MODULE.format(name=self.prefix or self.name, more=more))

    def start(self, *arguments: str, **variables: str) -> Command:
        """Start a command that serves its state, and wait until it answers. ``variables`` of its environment."""
        port, output = free_port(), self.folder / f"{arguments[0]}-{len(self.running)}.txt"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*_RUN, *arguments, "--metrics-port", str(port)],
                cwd=self.folder, env=self._environment() | variables, stdout=file, stderr=file,
            )  # fmt: skip
        command = Command(process, port, output)
        self.running.append(command)
        until(lambda: command.get("livez")[0] == 200 or not command.is_alive, 90, output.read_text)
        assert command.is_alive, output.read_text()
        return command

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end. ``variables`` of its environment."""
        return subprocess.run(
            [*_RUN, *arguments], cwd=self.folder, env=self._environment() | variables, check=False,
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        own = {
            "HEADRACE_BOOTSTRAP_SERVERS": self.services.bootstrap_servers,
            "HEADRACE_REDIS_URL": self.services.redis_url,
        }
        return os.environ | own

    def close(self) -> None:
        """Kill what is left."""
        for command in self.running:
            if command.is_alive:
                command.kill()


@contextmanager
def project_scene(services: LocalServices, name: str, folder: Path, *, prefix: str = "") -> Iterator[ProjectScene]:
    """A project whose commands end with the context."""
    scene = ProjectScene(services, name, folder, prefix)
    try:
        yield scene
    finally:
        scene.close()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def now_ms() -> int:
    """The time as Kafka has it."""
    return time.time_ns() // 1_000_000
