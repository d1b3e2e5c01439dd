"""Runs Kafka and Valkey of one data folder together."""

from __future__ import annotations

import os
import random
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from headrace.app.local.kafka import LocalKafka
from headrace.app.local.lock import START_SECONDS, Addresses, FolderLock, running
from headrace.app.local.ports import kept_ports
from headrace.app.local.valkey import SNAPSHOT_ON_STOP, LocalValkey
from headrace.base.place_names import check_folder_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from headrace.app.local.process import LocalService
    from headrace.app.project.settings import Settings


class LocalServices:
    """A context in which Kafka and Redis run.

    If `bootstrap_servers` or `redis_url` is given, it is used, and that service is not started. Started services stop
    with the context. They also stop if this process dies in any way. The data stays in `data_dir`/local. `kafka` and
    `valkey` can be killed and restarted separately. Their ports are the same at every start. Entering the context
    raises DataFolderInUseError if another process runs services on this folder.

    >>> from headrace import LocalServices
    >>> with LocalServices(".headrace", bootstrap_servers="kafka:9092", redis_url="redis://redis:6379") as services:
    ...     services.bootstrap_servers, services.redis_url  # both were given, so nothing was started
    ('kafka:9092', 'redis://redis:6379')
    """

    def __init__(
        self,
        data_dir: Path | str = ".headrace",
        *,
        bootstrap_servers: str | None = None,
        redis_url: str | None = None,
        redis_save: str = SNAPSHOT_ON_STOP,
    ) -> None:
        """Keep the options. The services start when the context is entered."""
        self.data_dir = Path(data_dir).resolve()
        check_folder_name(self.data_dir, "the data folder")
        self._given = (bootstrap_servers, redis_url)
        self._redis_save = redis_save
        self._stack = ExitStack()
        self._kafka: LocalKafka | None = None
        self._valkey: LocalValkey | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address of Kafka."""
        return self._given[0] or self.kafka.bootstrap_servers

    @property
    def redis_url(self) -> str:
        """The address of Redis."""
        return self._given[1] or self.valkey.url

    @property
    def kafka(self) -> LocalKafka:
        """The Kafka that was started here. Raises RuntimeError if there is none."""
        if self._kafka is None:
            raise RuntimeError("no local Kafka runs in this context")
        return self._kafka

    @property
    def valkey(self) -> LocalValkey:
        """The Valkey that was started here. Raises RuntimeError if there is none."""
        if self._valkey is None:
            raise RuntimeError("no local Valkey runs in this context")
        return self._valkey

    def start(self) -> Self:
        """Start both services at once, unless their address was given. Returns when both answer."""
        if all(self._given):
            return self
        with ExitStack() as stack:
            lock = FolderLock(self.data_dir)
            stack.callback(lock.release)
            for service in self._choose(lock):
                stack.callback(service.stop)
                service.launch()
            stack.callback(self._ask_to_stop)  # all at once: each may take seconds
            for service in self._started:
                service.await_ready(START_SECONDS)
            lock.publish(
                Addresses(pid=os.getpid(), bootstrap_servers=str(self.bootstrap_servers), redis_url=self.redis_url)
            )
            self._stack = stack.pop_all()
        return self

    def stop(self) -> None:
        """Stop the started services. A second call does nothing."""
        self._stack.close()
        self._kafka = self._valkey = None

    def _ask_to_stop(self) -> None:
        for service in self._started:
            service.ask_to_stop()

    def check(self) -> None:
        """Raise ServiceStartError, which names the log, if a service that was started here has ended."""
        for service in self._started:
            service.check()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _choose(self, lock: FolderLock) -> list[LocalService]:
        folder = self.data_dir / "local"
        ports = kept_ports(folder, random.Random())  # noqa: S311 - nobody has to guess them
        if self._given[1] is None:
            self._valkey = LocalValkey(folder / "valkey", port=ports.valkey, save=self._redis_save, keep_fds=[lock.fd])
        if self._given[0] is None:
            both = ports.kafka, ports.controller
            self._kafka = LocalKafka(folder / "kafka", ports=both, keep_fds=[lock.fd])
        return self._started

    @property
    def _started(self) -> list[LocalService]:
        services: tuple[LocalService | None, ...] = (self._valkey, self._kafka)
        return [service for service in services if service is not None]


def known_addresses(settings: Settings) -> Addresses:
    """Return the addresses that are set, else those of the services on the data folder (`headrace up`), else None."""
    found = running(settings.data_dir)
    return Addresses(
        pid=os.getpid(),
        bootstrap_servers=settings.kafka_servers or (found.bootstrap_servers if found else None),
        redis_url=settings.redis_url or (found.redis_url if found else None),
    )


@contextmanager
def services_for(settings: Settings) -> Iterator[Addresses]:
    """Yield the addresses of Kafka and Redis. A service without a known address runs as long as the context."""
    known = known_addresses(settings)
    with LocalServices(
        settings.data_dir, bootstrap_servers=known.bootstrap_servers, redis_url=known.redis_url
    ) as services:
        yield Addresses(pid=os.getpid(), bootstrap_servers=services.bootstrap_servers, redis_url=services.redis_url)
