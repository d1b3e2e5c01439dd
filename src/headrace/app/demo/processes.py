"""Runs the processes of the demo: worker, trainer and application. Each is a command of headrace."""

from __future__ import annotations

import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any, Self

import msgspec

from headrace.app.local.process import GuardedProcess
from headrace.errors import ProcessDiedError

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

_STOP_S = 10.0
_HEADRACE = [sys.executable, "-m", "headrace"]


class Processes:
    """Starts commands of headrace in a working directory and environment of their own.

    All of them end with the context. They also end if this process dies, even by kill -9: guarded processes watch a
    pipe, and the application watches its standard input.
    """

    def __init__(self, logs: Path, root: Path, environment: dict[str, str]) -> None:
        self._logs = logs
        self._env = ["env", "-C", str(root), *(f"{name}={value}" for name, value in environment.items())]
        self._guarded: dict[str, GuardedProcess] = {}
        self._application: subprocess.Popen[bytes] | None = None
        logs.mkdir(parents=True, exist_ok=True)

    def log(self, name: str) -> Path:
        """Return the log file of a process."""
        return self._logs / f"{name}.log"

    def start(self, name: str, *arguments: str, threads: int = 1) -> None:
        """Start ``headrace …`` with a name. Its log is ``<name>.log``. ``threads`` is for OpenMP."""
        command = [*self._env, f"OMP_NUM_THREADS={threads}", *_HEADRACE, *arguments]
        self._guarded[name] = GuardedProcess(command, self.log(name), grace_seconds=_STOP_S)

    def start_lockstep(self, *arguments: str) -> LockstepApplication:
        """Start an application in lockstep."""
        with self.log("application").open("ab") as log:
            self._application = subprocess.Popen(  # noqa: S603 - our own command
                [*self._env, "OMP_NUM_THREADS=1", *_HEADRACE, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which stops them in order
            )
        return LockstepApplication(self._application, self.log("application"))

    def check(self) -> None:
        """Raise ProcessDiedError if a process has ended by itself."""
        for name, process in self._guarded.items():
            if not process.running:
                tail = self.log(name).read_text(errors="replace").strip().splitlines()[-5:]
                message = f"the {name} has ended; see {self.log(name)}:\n" + "\n".join(tail)
                raise ProcessDiedError(message)

    def kill(self, name: str) -> None:
        """Kill a process with SIGKILL."""
        self._guarded.pop(name).kill()

    def stop(self) -> None:
        """Ask all processes to stop, then kill those that still run."""
        if self._application is not None and self._application.stdin is not None:
            self._application.stdin.close()
        for process in self._guarded.values():  # all at once: each takes seconds
            process.ask_to_stop()
        for process in self._guarded.values():
            process.stop()
        self._guarded.clear()
        if self._application is not None:
            try:
                self._application.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                self._application.kill()
                self._application.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._application is not None:
            self._application.terminate()  # one that is still starting does not look at its input
        self.stop()


class LockstepApplication:
    """Talks to ``headrace score --lockstep``: one command, one answer."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log
        self._answer()

    def serve(self, t_us: int, requests: int) -> dict[str, Any]:
        """Predict all open requests among the first ``requests``, as of ``t_us``."""
        return self._ask({"t_us": t_us, "requests": requests})

    def swap(self, event_id: str, t_us: int) -> int:
        """Follow the model events up to this one at ``t_us``, and return the version that is live after it."""
        version: int = self._ask({"event": event_id, "t_us": t_us})["version"]
        return version

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        pipe: IO[bytes] = self._process.stdin  # type: ignore[assignment]
        try:
            pipe.write(msgspec.json.encode(command) + b"\n")
            pipe.flush()
        except OSError as error:
            raise ProcessDiedError(f"the application is gone; see {self._log}") from error
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise ProcessDiedError(f"the application ended; see {self._log}")
        return msgspec.json.decode(line, type=dict[str, Any])
