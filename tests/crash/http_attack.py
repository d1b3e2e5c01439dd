"""``python -m tests.crash.http_attack``: attackers on `headrace serve`, beside a client that measures its answers.

The attackers are processes with less priority, as if they were on other machines: 400 connections that never finish a
head, 5 senders that never stop, arbitrary bytes and documents from hypothesis, and requests from schemathesis. The
first minute and the last are without them. The table has a row for each minute; the exit code is 1 if a request of the
measuring client failed, if any answer was a fault of the server, or if the server ended.
"""

from __future__ import annotations

import argparse
import http.client
import json
import multiprocessing
import os
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from headrace.app.local.services import LocalServices
from headrace.features.online.redis.redis_store import RedisOnlineStore
from tests.support.http_fuzz import ANY_BODY, ANY_BYTES, PATHS
from tests.support.lookups_scene import Worker, sale
from tests.support.processes import end_with_the_test_run
from tests.support.serve_process import Serving, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.queues import SimpleQueue

NAMESPACE = "attacked"
REQUEST = {"service": "risk", "entities": [{"shop": "a", "till": 1}]}
HALF_HEADS = 400
ENDLESS_SENDERS = 5
PAUSE_S = 0.05
MINUTE_S = 60.0
MANY = settings(max_examples=10**9, deadline=None, database=None, suppress_health_check=list(HealthCheck))
NICE = 10
"""Less priority than the server and the measuring client."""

Attack = tuple[str, int]
"""What an attacker did, and how often since it said so the last time."""


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), 20)


def _half_heads(url: str, did: Callable[[str], None]) -> None:
    """Hold many connections open, each with half a head; open another for each that the server closes."""
    waiting = selectors.DefaultSelector()
    while True:
        while len(waiting.get_map()) < HALF_HEADS:
            with suppress(OSError):
                connection = _connected(url)
                connection.sendall(b"GET /livez HTTP/1.1\r\nX: a")
                waiting.register(connection, selectors.EVENT_READ)
                did("half a head")
            time.sleep(0.001)
        for key, _events in waiting.select(1.0):
            waiting.unregister(key.fileobj)
            key.fileobj.close()  # type: ignore[union-attr]


def _endless(url: str, did: Callable[[str], None]) -> None:
    """Send headers without an end, several at once."""

    def send() -> None:
        while True:
            with suppress(OSError), _connected(url) as connection:
                connection.sendall(b"GET /livez HTTP/1.1\r\nX: ")
                did("an endless head")
                while True:
                    connection.sendall(b"a" * 500)
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=send) for _ in range(ENDLESS_SENDERS)]
    for thread in threads:
        thread.start()


def _bytes(url: str, did: Callable[[str], None]) -> None:
    @MANY
    @given(ANY_BYTES)
    def fuzz(pieces: list[bytes]) -> None:
        with suppress(OSError), _connected(url) as connection:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            answered = connection.recv(1_000)
            did("arbitrary bytes")
            if b" 500 " in answered.partition(b"\r\n")[0]:
                did("FAULT: 500 for bytes")
        time.sleep(PAUSE_S)

    fuzz()


def _documents(url: str, did: Callable[[str], None]) -> None:
    parts = urlsplit(url)

    @MANY
    @given(st.sampled_from(PATHS), ANY_BODY)
    def fuzz(path: str, body: Any) -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=20)
        with suppress(OSError, http.client.HTTPException):
            connection.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
            status = connection.getresponse().status
            did("arbitrary JSON")
            if status == http.client.INTERNAL_SERVER_ERROR:
                did("FAULT: 500 for JSON")
        connection.close()
        time.sleep(PAUSE_S)

    fuzz()


def _schema(url: str, did: Callable[[str], None]) -> None:
    import schemathesis
    from schemathesis import GenerationMode

    modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    described = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [operation for path in PATHS for operation in described[path].values()]

    @MANY
    @given(st.one_of(*(operation.as_strategy(generation_mode=mode) for operation in operations for mode in modes)))
    def fuzz(case: Any) -> None:
        with suppress(OSError):  # the errors of requests are kinds of it
            status = case.call(timeout=20).status_code
            did("schemathesis")
            if status == http.client.INTERNAL_SERVER_ERROR:
                did("FAULT: 500 for schemathesis")
        time.sleep(PAUSE_S)

    fuzz()


ATTACKERS = (_half_heads, _endless, _bytes, _documents, _schema)


def _attack(name: str, url: str, told: SimpleQueue[Attack]) -> None:
    end_with_the_test_run()
    os.nice(NICE)
    next(each for each in ATTACKERS if each.__name__ == name)(url, lambda kind: told.put((kind, 1)))


@contextmanager
def attackers(url: str, counts: Counter[str]) -> Iterator[None]:
    """All attackers at work; ``counts`` is filled with what they did."""
    context = multiprocessing.get_context("spawn")
    told: SimpleQueue[Attack] = context.SimpleQueue()
    processes = [context.Process(target=_attack, args=(each.__name__, url, told), daemon=True) for each in ATTACKERS]

    def count() -> None:
        while (found := told.get())[1]:
            counts[found[0]] += found[1]

    counting = threading.Thread(target=count)
    counting.start()
    for process in processes:
        process.start()
    try:
        yield
    finally:
        ended = [process.name for process in processes if not process.is_alive()]
        counts.update({f"FAULT: {name} ended": 1 for name in ended})
        for process in processes:
            process.kill()
            process.join()
        told.put(("", 0))
        counting.join()


@dataclass
class Minute:
    """What the measuring client saw in a minute: milliseconds of each answer, and what failed."""

    name: str
    attacked: bool
    millis: dict[str, list[float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    memory: int = 0

    def share(self, path: str, share: float) -> float:
        """The time within which this share of the requests was answered."""
        found = sorted(self.millis[path])
        return found[min(len(found) - 1, int(share * len(found)))]


def measure(it: Serving, minute: Minute, seconds: float) -> None:
    """Ask for a health probe and a look-up, twenty times a second, each on a connection of its own."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        for path, body in (("/livez", None), ("/features", REQUEST)):
            began = time.perf_counter()
            try:
                answered = it.ask(path, body)
                if answered.status != http.client.OK:
                    minute.failed.append(f"{path}: {answered.status} {answered.body[:200]!r}")
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                minute.failed.append(f"{path}: {type(error).__name__}: {error}")
            minute.millis.setdefault(path, []).append((time.perf_counter() - began) * 1_000)
        time.sleep(PAUSE_S)
    minute.memory = psutil.Process(it.process.pid).memory_info().rss


def attacked(it: Serving, minutes: int, counts: Counter[str], progress: Progress) -> list[Minute]:
    """A quiet minute, the minutes of the attack, and a quiet minute."""
    found = [Minute("before", attacked=False)]
    bar = progress.add_task("minutes", total=minutes + 2)
    measure(it, found[0], MINUTE_S)
    progress.advance(bar)
    with attackers(it.url, counts):
        for number in range(minutes):
            found.append(Minute(str(number + 1), attacked=True))
            measure(it, found[-1], MINUTE_S)
            progress.advance(bar)
    found.append(Minute("after", attacked=False))
    measure(it, found[-1], MINUTE_S)
    progress.advance(bar)
    return found


def table(minutes: Sequence[Minute], counts: Counter[str]) -> Table:
    """The minutes, and what the attackers did."""
    shown = Table(title=", ".join(f"{count:,} x {kind}" for kind, count in sorted(counts.items())))
    for name in ("minute", "requests", "failed", "livez p50 ms", "p99", "features p50 ms", "p99", "max", "MiB"):
        shown.add_column(name, justify="right")
    for each in minutes:
        asked = sum(map(len, each.millis.values()))
        times = [f"{each.share(path, share):.1f}" for path in ("/livez", "/features") for share in (0.5, 0.99)]
        worst = max(max(found) for found in each.millis.values())
        shown.add_row(each.name, f"{asked:,}", str(len(each.failed)), *times, f"{worst:.0f}", f"{each.memory >> 20}")
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Attack for some minutes; 1 if anybody else noticed more than time."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.http_attack", description=__doc__)
    parser.add_argument("--minutes", type=int, default=10, help="of the attack (10)")
    options, counts, console = parser.parse_args(arguments), Counter[str](), Console()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-attack-")))
        services = stack.enter_context(LocalServices(folder / "services"))
        store = RedisOnlineStore(services.redis_url, NAMESPACE)
        worker = Worker(store)
        worker.fold(0, sale("a", 1, 1.0))
        worker.fold(1)
        it = stack.enter_context(served(services, NAMESPACE, folder))
        progress = stack.enter_context(Progress(console=console))
        minutes = attacked(it, options.minutes, counts, progress)
        store.close()
    console.print(table(minutes, counts))
    failed = [line for minute in minutes for line in minute.failed]
    faults = [kind for kind in counts if kind.startswith("FAULT")]
    for line in [*failed[:20], *faults]:
        console.print(line)
    return 1 if failed or faults else 0


if __name__ == "__main__":
    sys.exit(main())
