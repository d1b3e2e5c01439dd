"""`headrace serve` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.support.http_scene import Answered, ask

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices


class Serving:
    """The process."""

    def __init__(self, process: subprocess.Popen[bytes], url: str, log: Path, context: Any) -> None:
        self.process, self.url, self._log, self._context = process, url, log, context

    def ask(self, path: str, body: Any = None, **options: Any) -> Answered:
        return ask(f"{self.url}{path}", body, context=self._context, **options)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def served(
    services: LocalServices, namespace: str, folder: Path, *arguments: str, context: Any = None, **environment: str
) -> Iterator[Serving]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environ |= {"HEADRACE_NAMESPACE": namespace, "HEADRACE_REDIS_URL": services.redis_url, **environment}
    command = [sys.executable, "-m", "headrace", "serve", "--port", str(port), *arguments]
    log = folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environ, cwd=folder, stderr=output)
    found = Serving(process, f"http{'s' if context else ''}://127.0.0.1:{port}", log, context)
    try:
        await_ready(found)
        yield found
    finally:
        process.kill()
        process.wait()


def await_ready(found: Serving) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert found.process.poll() is None, found.log()
        try:
            if found.ask("/livez").status == 200:
                return
        except ConnectionError:
            time.sleep(0.05)
    raise AssertionError(found.log())
