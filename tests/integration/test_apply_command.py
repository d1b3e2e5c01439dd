"""`headrace plan` and `headrace apply` as commands, on real Kafka and Valkey, with a worker that runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.errors import TransientError
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from tests.support.feast_scene import YAML
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow]
CHANGES = 3
ROWS = 2_000
PROJECT = """
from datetime import datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Count, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
class Sale(Event):
    shop: str
    at: datetime
    amount: float
sales = Stream("{topic}", Sale, event_time="at")
shop = FeatureView("shop", Entity("shop", str), sales, {windows}, {{"n": Count(), "amount": Sum("amount")}})
risk = FeatureService("risk", [shop])
"""


class Project:
    """A folder with definitions, a worker that runs them, and the commands."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path) -> None:
        self._services, self._namespace, self._folder = services, namespace, folder
        self.topic = f"{namespace}.sales"
        self._processes: list[subprocess.Popen[bytes]] = []
        modules = f'streams = ["{namespace}"]\nfeatures = []\ntrainers = []\n'
        (folder / "headrace.toml").write_text(f'namespace = "{namespace}"\n[project]\n{modules}')
        self.define(["1h"])

    def define(self, windows: list[str]) -> None:
        """Write the definitions."""
        text = PROJECT.format(topic=self.topic, windows=windows)
        (self._folder / f"{self._namespace}.py").write_text(text)
        sys.modules.pop(self._namespace, None)
        cached = self._folder / "__pycache__"
        for file in cached.glob("*.pyc"):
            file.unlink()

    def keep_a_feature_store(self) -> None:
        """Feast's registry is to follow from now on."""
        text = YAML.format(project="p", kind="file", registry="registry.db", redis="127.0.0.1:1", events="events")
        (self._folder / "feature_store.yaml").write_text(text)

    def run(self, *arguments: str, **options: Any) -> Any:
        """A command in this process, its definitions read anew."""
        sys.modules.pop(self._namespace, None)
        return CliRunner().invoke(build(), arguments, **options)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A command in a process of its own."""
        with (self._folder / "out.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace", *arguments],
                cwd=self._folder, env=dict(os.environ), stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def produce(self, count: int) -> None:
        """Sales of three shops."""
        producer = Producer({"bootstrap.servers": self._services.bootstrap_servers})
        for number in range(count):
            value = {"shop": f"s{number % 3}", "at": "2026-01-01T00:00:00Z", "amount": 1.0}
            producer.produce(self.topic, json.dumps(value).encode())
        assert producer.flush(20) == 0

    def said(self) -> str:
        """What the processes had to say."""
        return (self._folder / "out.log").read_text()

    def close(self) -> None:
        """Kill what is left."""
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def project(
    services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    project = Project(services, namespace, tmp_path)
    yield project
    project.close()


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # Feast's imports warn
def test_a_changed_view_is_planned_applied_once_and_served(
    project: Project, services: LocalServices, namespace: str
) -> None:
    project.start("worker", "--partitions", "2")
    store = RedisOnlineStore(services.redis_url, namespace)
    until(lambda: store.get_document("service:risk") is not None, 120, project.said)
    project.produce(ROWS)
    until(lambda: project.run("plan").exit_code == 0 and json.loads(project.run("plan", "--json").stdout)["live"], 120)

    project.define(["1h", "1d"])
    planned = project.run("plan", "--json")
    assert planned.exit_code == CHANGES
    told = json.loads(planned.stdout)
    lines = {(line["kind"], line["action"]): line for line in told["lines"]}
    assert set(lines) == {("view", "changed"), ("service", "changed"), ("view", "kept")}
    assert lines["view", "changed"]["what"] == ["+ window 1d"]
    until(lambda: estimate_of(project)["rows"] == ROWS, 120)
    assert estimate_of(project)["bytes"] > 0
    assert "+ window 1d" in project.run("plan").stdout

    refused = project.run("apply", input="n\n")
    assert refused.exit_code == 1
    assert project.run("plan").exit_code == CHANGES

    project.keep_a_feature_store()
    done = project.run("apply", "--yes")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "live")
    assert done.stdout.splitlines()[-3:-1] == ["feast: view shop added", "feast: service risk added"]
    client = FeatureClient(store)
    found = client.get("risk", [{"shop": f"s{n}"} for n in range(3)])
    assert found.columns == ["shop__n_1h", "shop__n_1d", "shop__amount_1h", "shop__amount_1d"]
    again = project.run("apply", "--yes")
    assert (again.exit_code, "nothing to deploy" in again.stdout, "feast:" in again.stdout) == (0, True, False)
    assert project.run("plan").exit_code == 0
    store.close()


def estimate_of(project: Project) -> dict[str, Any]:
    lines = json.loads(project.run("plan", "--json").stdout)["lines"]
    found: dict[str, Any] = next(line["estimate"] for line in lines if line["action"] == "changed")
    return found


@pytest.mark.long
def test_apply_without_a_worker_deploys_nothing_unless_told_not_to_wait(project: Project) -> None:
    planned = project.run("plan")
    assert planned.exit_code == CHANGES
    alone = project.run("apply", "--yes")
    assert isinstance(alone.exception, TransientError)
    assert "start `headrace worker`" in str(alone.exception)
    assert project.run("plan").exit_code == CHANGES
    done = project.run("apply", "--yes", "--no-wait")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (0, "deployed")
    after = project.run("plan")
    assert (after.exit_code, "not everything is live" in after.stdout) == (0, True)
    project.start("worker", "--partitions", "2")
    resumed = project.run("apply", "--yes")
    assert resumed.exit_code in {0, 75} or isinstance(resumed.exception, TransientError)
    until(lambda: project.run("apply", "--yes").exit_code == 0, 120)
