"""Feast's commands over the plug-ins: plan and apply of a small repository, serve, and ui."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.support.feast_scene import NOW, FeastScene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long, pytest.mark.filterwarnings("ignore")]
FEAST = str(Path(sys.executable).with_name("feast"))
REPOSITORY = """
import feast
from pathlib import Path
from headrace.feast import objects
from tests.support.feast_scene import ratings, risk

globals().update(objects(risk))
rating, rating_push, rated = ratings(Path(__file__).parent)
both = feast.FeatureService(name="both", features=[view_shop, rating, view_till, rated])  # noqa: F821
"""


def run(scene: FeastScene, *arguments: str) -> str:
    """A command, in this process; what it said."""
    from feast.cli.cli import cli

    done = CliRunner().invoke(cli, ["--chdir", str(scene.folder), *arguments])
    assert done.exit_code == 0, f"{done.output} {done.exception!r}"
    return done.output


class Server:
    """A command that serves, in a process of its own; ``url`` answers once :meth:`wait` returns."""

    def __init__(self, scene: FeastScene, command: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._log = scene.folder / f"{command}.log"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                [FEAST, command, "--host", "127.0.0.1", "--port", str(self._port)],
                cwd=scene.folder, env=environment, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def wait(self) -> None:
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return
            time.sleep(0.1)
        pytest.fail(self._log.read_text())

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


def call(url: str, body: Any = None) -> Any:
    """GET, or POST of JSON; the JSON of the answer, or its text."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read().decode()
    return json.loads(text) if text[:1] in {"{", "["} else text


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeastScene]:
    """A repository that was planned and applied by Feast's commands."""
    scene = FeastScene(services, tmp_path_factory.mktemp("feast"))
    (scene.folder / "definitions.py").write_text(REPOSITORY)
    path = list(sys.path)
    planned = run(scene, "plan")
    assert "Created feature view shop" in planned
    run(scene, "apply")
    assert {view.name for view in scene.feast().list_feature_views()} == {"shop", "till", "rating"}
    yield scene
    sys.path[:] = path
    sys.modules.pop("definitions", None)


@pytest.fixture(scope="module")
def servers(scene: FeastScene) -> Iterator[dict[str, Server]]:
    """`feast serve` and `feast ui`, started together: each takes seconds to import Feast."""
    servers = {command: Server(scene, command) for command in ("serve", "ui")}
    try:
        for server in servers.values():
            server.wait()
        yield servers
    finally:
        for server in servers.values():
            server.stop()


def test_feast_serve_answers_with_statuses_and_takes_pushes(servers: dict[str, Server]) -> None:
    url = servers["serve"].url
    row = {"shop": ["a"], "event_timestamp": [NOW.isoformat()], "rating": [3.0]}
    call(f"{url}/push", {"push_source_name": "ratings_push", "df": row})
    asked = {"feature_service": "both", "entities": {"shop": ["a", "zz", "old", None], "till": [1, 1, 1, 1]}}
    answer = call(f"{url}/get-online-features", asked)
    found = dict(zip(answer["metadata"]["feature_names"], answer["results"], strict=True))
    assert found["amount_1d"]["values"] == [7.0, 0.0, 5.0, 0.0]
    assert found["amount_1d"]["statuses"] == ["PRESENT", "NOT_FOUND", "OUTSIDE_MAX_AGE", "NOT_FOUND"]
    assert found["rating"]["statuses"] == ["PRESENT", "NOT_FOUND", "NOT_FOUND", "NOT_FOUND"]
    assert found["rated"]["values"][0] == 21.0


def test_feast_ui_shows_the_views(servers: dict[str, Server], scene: FeastScene) -> None:
    url = servers["ui"].url
    assert "<html" in call(f"{url}/")
    views = call(f"{url}/api/v1/feature_views?project={scene.namespace}")
    shown = {view["spec"]["name"]: view["spec"] for view in views["featureViews"]}
    assert set(shown) >= {"shop", "till", "rating"}
    assert shown["shop"]["description"].startswith("n (count), amount (sum)")
