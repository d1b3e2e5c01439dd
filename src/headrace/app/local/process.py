"""A service on this machine that ends with the process that started it, also after kill -9."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

from headrace.errors import ServiceStartError

if TYPE_CHECKING:
    from collections.abc import Sequence

_GUARD = Path(__file__).with_name("guard.py")
_LOG_TAIL_LINES = 15
UTF_8 = {"LC_ALL": "C.UTF-8"}
"""The environment with which Java finds files with names in every script, whatever the user's own is."""


class GuardedProcess:
    """One running command behind its guard (see guard.py)."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        grace_seconds: float,
        keep_fds: Sequence[int] = (),
        folder: Path | None = None,
    ) -> None:
        """Start it, in `folder` if one is given. Output is appended to `log`.

        `keep_fds`, such as a lock, stay open until the command is dead.
        """
        guard = [sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), str(grace_seconds), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(  # noqa: S603 - our own guard and the service's command
                guard,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its services in order
                pass_fds=tuple(keep_fds),
                cwd=folder,
                env=os.environ | UTF_8,
            )
        line = _pipe(self._guard.stdout).readline()
        if not line:
            self.stop()
            raise ServiceStartError(f"{command[0]} could not be started; see {log}")
        self.pid = int(line)

    @property
    def running(self) -> bool:
        """True while the command runs."""
        return self._guard.poll() is None

    def ask_to_stop(self) -> None:
        """Ask the command to end. It is killed after the grace period."""
        _pipe(self._guard.stdin).close()

    def stop(self) -> None:
        """Ask the command to end, and wait for it."""
        self.ask_to_stop()
        self._guard.wait()
        _pipe(self._guard.stdout).close()

    def kill(self) -> None:
        """Kill the command with SIGKILL, as in a crash."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
        self.stop()


class LocalService(ABC):
    """A server with its data in a folder. It can be started, stopped, killed, and restarted on the same port."""

    name: str
    grace_seconds = 5.0

    def __init__(self, folder: Path, *, keep_fds: Sequence[int] = ()) -> None:
        """Make `folder` if it does not exist. The server does not run before `launch`."""
        self.folder = folder.resolve()
        self.log = self.folder / f"{self.name}.log"
        self._keep_fds = tuple(keep_fds)
        self._process: GuardedProcess | None = None

    @abstractmethod
    def _command(self) -> list[str]:
        """Return the command line. It may write configuration files first.

        The server runs in its folder, so relative paths do: the folder's own name may have a comma or a backslash.
        """

    @abstractmethod
    def _ready(self) -> bool:
        """Return whether a client gets an answer now. It must return within about a second."""

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None if it does not run."""
        return self._process.pid if self._process is not None and self._process.running else None

    def launch(self) -> None:
        """Start the process and return at once."""
        if self.pid is not None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        command = self._command()
        self._process = GuardedProcess(
            command, self.log, grace_seconds=self.grace_seconds, keep_fds=self._keep_fds, folder=self.folder
        )

    def await_ready(self, timeout_seconds: float = 60.0) -> Self:
        """Wait until a client gets an answer. Raises ServiceStartError with the end of the log."""
        deadline = time.monotonic() + timeout_seconds
        while not self._ready():
            self.check()
            if time.monotonic() > deadline:
                raise ServiceStartError(
                    f"{self.name} did not answer in {timeout_seconds:g} s; see {self.log}:\n{self._log_tail()}"
                )
            time.sleep(0.02)
        return self

    def check(self) -> None:
        """Raise ServiceStartError with the end of the log if the server does not run."""
        if self.pid is None:
            raise ServiceStartError(f"{self.name} has ended by itself; the end of {self.log}:\n{self._log_tail()}")

    def ask_to_stop(self) -> None:
        """Ask the server to stop, and return at once. It is killed after the grace period."""
        if self._process is not None:
            self._process.ask_to_stop()

    def stop(self) -> None:
        """Stop the server cleanly. The data stays in the folder."""
        process, self._process = self._process, None
        if process is not None:
            process.stop()

    def kill(self) -> None:
        """Kill the server, as in a crash."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def restart(self, *, crash: bool = False) -> None:
        """Stop the server (with `crash`: kill it), and start it again with the same port and data."""
        if crash:
            self.kill()
        else:
            self.stop()
        self.launch()
        self.await_ready()

    def _log_tail(self) -> str:
        if not self.log.exists():
            return "(no output)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:])


def free_ports(count: int) -> list[int]:
    """Return different free ports of 127.0.0.1."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def listens(port: int) -> bool:
    """Return whether something accepts connections on this port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


def _pipe(end: IO[bytes] | None) -> IO[bytes]:
    if end is None:
        raise RuntimeError("the guard is always started with pipes")
    return end
