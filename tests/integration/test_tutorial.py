"""The tutorial runs as it stands, block after block, and prints what it says."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.documents import Block, blocks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.long,
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports warn
]
PAGE = "docs/tutorial.md"
OF_THE_TESTS = ("pip install", "mkdir", "headrace up")
"""Commands of the page that the tests' environment stands for."""


class Reader:
    """Does what the page says in a folder; ``said`` is what the last block of Python printed."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self._folder = folder
        self._store = RedisOnlineStore(redis_url, "tutorial")
        self._world: dict[str, Any] = {"__name__": "tutorial"}
        self._running: list[subprocess.Popen[bytes]] = []
        self.said = ""

    def do(self, block: Block) -> None:
        """A file is written, a command or a program run; a text is compared with what the program printed."""
        first, _, rest = block.text.partition("\n")
        if block.language == "text":
            assert self.said == block.text
        elif block.language == "console":
            for command in block.text.splitlines():
                self._command(command.removeprefix("$ "))
        elif first.removeprefix("# ").endswith((".py", ".toml")):
            (self._folder / first.removeprefix("# ")).write_text(rest)
        else:
            self._program(block.text)

    def _program(self, text: str) -> None:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(text, PAGE, "exec", dont_inherit=True), self._world)
        self.said = printed.getvalue()

    def _command(self, command: str) -> None:
        if command.startswith(OF_THE_TESTS):
            return
        name, *arguments = shlex.split(command)
        assert name == "headrace"
        with (self._folder / "out.log").open("ab") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "headrace", *arguments],
                cwd=self._folder, env=dict(os.environ), stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self._running.append(process)
        if arguments == ["worker"]:
            self._wait_for_the_worker(process)
        else:
            assert process.wait(240) == 0, self.told()

    def _wait_for_the_worker(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + 60
        while self._store.get_document("service:couriers") is None:
            assert process.poll() is None, self.told()
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.05)

    def told(self) -> str:
        """What the commands had to say."""
        return (self._folder / "out.log").read_text()

    def close(self) -> None:
        """End what runs."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait(30)


@pytest.fixture
def reader(services: LocalServices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    one = Reader(tmp_path, services.redis_url)
    try:
        yield one
    finally:
        one.close()
        sys.modules.pop("definitions", None)


def test_the_tutorial(reader: Reader) -> None:
    page = blocks(PAGE)
    assert sum(block.language == "text" for block in page) >= 6
    for block in page:
        reader.do(block)
