"""A real Postgres on a port of its own, from the packages of this machine."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import pytest

_BINARIES = "/usr/lib/postgresql"
_START_S = 60.0


class Postgres:
    """A server with logical decoding on a port of its own. It skips the test on a machine without Postgres."""

    def __init__(self) -> None:
        self.port = free_port()
        self._programs = _programs()
        self._user = _server_user()
        self._folder = Path(tempfile.mkdtemp(prefix="headrace-postgres-"))  # one that the server's user may enter
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        made = [str(self._programs / "initdb"), "-D", self._data, "-A", "trust", "-U", "postgres", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, user=self._user, cwd=self._folder)
        self.start()
        return self

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    @property
    def rules(self) -> Path:
        """The file that says who is let in, and how."""
        return Path(self._data) / "pg_hba.conf"

    def url(self, user: str = "postgres") -> str:
        """The URL of its database, without a password."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "wal_level": "logical", "fsync": "off",
            "unix_socket_directories": self._folder, "max_prepared_transactions": 4,
        }  # fmt: skip
        given = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), "-D", self._data, *given],
                stdout=log, stderr=log, user=self._user, cwd=self._folder,
            )  # fmt: skip
        until = time.monotonic() + _START_S
        while time.monotonic() < until:
            if subprocess.run(self._psql("SELECT 1"), check=False, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        pytest.fail(f"Postgres did not start: {(self._folder / 'log').read_text(errors='replace')[-2_000:]}")

    def stop(self, with_signal: signal.Signals = signal.SIGQUIT) -> None:
        """End it, at once by default: its clients lose their connections."""
        if self._process is not None:
            self._process.send_signal(with_signal)
            self._process.wait(20)

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


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    return port
