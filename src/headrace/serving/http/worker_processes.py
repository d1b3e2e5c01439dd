"""Several processes that serve on one port: a dead one is replaced, and a signal replaces all, one after the other."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

if TYPE_CHECKING:
    from socket import socket

logger = structlog.get_logger(__name__)
_CLOSE = (b"connection", b"close")


class DrainingServer(uvicorn.Server):
    """uvicorn's server. When it stops, it answers every request that still comes, and says that it will close."""

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """Take no new connection, and end the others after their next answer, or when nothing comes on them."""
        self.server_state.default_headers = [*self.server_state.default_headers, _CLOSE]
        await super().shutdown(sockets)


class WorkerProcess(Process):
    """One process."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._is_asked, self._is_serving = False, False

    @property
    def server(self) -> uvicorn.Server:
        """The server, made in the process that runs it."""
        if self._server is None:
            self._server = DrainingServer(config=self.config)
        return self._server

    def is_serving(self) -> bool:
        """Return whether the process has said that it serves. Does not wait: a slow start is no death."""
        with suppress(OSError, EOFError):
            if not self._is_serving and not self._is_asked:
                self.parent_conn.send(b"ping")
                self._is_asked = True
            if self._is_asked and self.parent_conn.poll(0):
                self._is_serving, self._is_asked = bool(self.parent_conn.recv()), False
        return self._is_serving


class WorkerProcesses(Multiprocess):
    """The processes of a server. Each is judged by whether it runs, never by how soon it answers.

    SIGHUP replaces them: an old process stops when its replacement serves. SIGTERM and SIGINT stop all of them.
    """

    def __init__(self, config: uvicorn.Config, sockets: list[socket]) -> None:
        super().__init__(config, sockets)
        self._to_replace: list[Process] = []
        self._replacement: WorkerProcess | None = None
        self._retired: list[Process] = []

    def init_processes(self) -> None:
        """Start all processes."""
        self.processes = [self._started() for _ in range(self.processes_num)]

    def restart_all(self) -> None:
        """Ask for a replacement of each process. The loop does it, and goes on with everything else."""
        self._to_replace = list(self.processes)

    def keep_subprocess_alive(self) -> None:
        """Replace what has died, and go on with the replacements that were asked for."""
        for place, process in enumerate(self.processes):
            if process.process.is_alive():
                continue
            process.join()
            if process.exitcode == STARTUP_FAILURE:
                logger.error("a process could not start: the server stops", process=process.pid)
                self.should_exit.set()
                return
            logger.warning("a process has died and is replaced", process=process.pid, exit_code=process.exitcode)
            self.processes[place] = self._started()
        self._replace()
        self._retired = [process for process in self._retired if process.process.is_alive()]

    def terminate_all(self) -> None:
        """Ask every process to stop. The retired ones were asked before."""
        if self._replacement is not None:
            self.processes.append(self._replacement)
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for all processes."""
        self.processes += self._retired
        super().join_all()

    def _replace(self) -> None:
        """Do one step: start a replacement, or let it take its place once it serves."""
        if self._replacement is None:
            self._to_replace = [process for process in self._to_replace if process in self.processes]
            if self._to_replace:
                self._replacement = self._started()
            return
        if not self._replacement.process.is_alive():
            logger.error("a new process could not start: the old ones go on", process=self._replacement.pid)
            self._replacement, self._to_replace = None, []
            return
        if self._replacement.is_serving():
            self._take_over(self._replacement)

    def _take_over(self, new: WorkerProcess) -> None:
        old = next((process for process in self._to_replace if process in self.processes), None)
        self._replacement = None
        if old is None:  # it has died meanwhile, and its successor is new too
            new.terminate()
            self._retired.append(new)
            return
        self._to_replace.remove(old)
        self.processes[self.processes.index(old)] = new
        old.terminate()
        self._retired.append(old)

    def _started(self) -> Any:
        process = WorkerProcess(self.config, self.sockets)
        process.start()
        return process
