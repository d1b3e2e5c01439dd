"""A project on the servers of a test: its definitions, a worker, and topics and a namespace of its own."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from headrace.app.local.process import GuardedProcess
from headrace.base.times import SECOND, duration_us
from headrace.bus.kafka_clients import admin
from headrace.bus.topics import dead_letter_topic, existing_incarnations, retained_offsets
from headrace.errors import ProcessDiedError, TransientError
from headrace.features.online.cursor import CursorState
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.connection import Connection, connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    import msgspec

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.base.times import Duration
    from headrace.bus.stream import Stream

_POLL_S, _START_S, _STOP_S, _SHOWN_LINES = 0.05, 120.0, 10.0, 15


class ProjectUnderTest:
    """A project with servers for one test. The fixture ``headrace_project`` of the pytest plug-in makes it.

    ``definitions`` are those of the project, ``settings`` have the servers of the test, its namespace and its folders.
    """

    def __init__(self, definitions: Project, settings: Settings, folder: Path) -> None:
        self.definitions, self.settings = definitions, settings
        self._folder = folder
        self._servers, self._redis_url = str(settings.bootstrap_servers), str(settings.redis_url)

    @property
    def environment(self) -> Mapping[str, str]:
        """The variables by which a command of headrace finds the servers and the namespace of the test."""
        return {
            "HEADRACE_BOOTSTRAP_SERVERS": self._servers,
            "HEADRACE_REDIS_URL": self._redis_url,
            "HEADRACE_NAMESPACE": self.settings.namespace,
            "HEADRACE_DATA_DIR": str(self.settings.data_dir),
            "HEADRACE_EVENT_LOG": self.settings.event_log,
            "HEADRACE_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
        }

    def connect(self) -> Connection:
        """Return what an application gets from :func:`headrace.connect`. Close it, or use it as a context."""
        return connect(self._servers, redis_url=self._redis_url, namespace=self.settings.namespace)

    def make_topics(self) -> None:
        """Make the project's topics, with one partition each, and with the timestamps of the producer."""
        from headrace.streams.worker import make_topics

        streams = list(self.definitions.streams.values())
        make_topics(self._servers, streams, 1, namespace=self.settings.namespace, replay=True)

    def send(self, stream: Stream, *events: msgspec.Struct, timestamp: datetime | None = None) -> None:
        """Produce events, and wait until Kafka has them. ``timestamp`` is that of their records; None for now.

        Raises as :class:`headrace.EventProducer`.
        """
        with self.connect() as connection:
            producer = connection.producer()
            for event in events:
                producer.send(stream, event, timestamp=timestamp)
            producer.flush()

    @contextmanager
    def worker(self, *arguments: str) -> Iterator[None]:
        """Run ``headrace worker`` with these arguments as long as the context; it is ready when the context begins.

        Raises ProcessDiedError, with the end of its log, if it ends by itself.
        """
        log = self._folder / "worker.log"
        process = self._start("worker", "--replay", *arguments, log=log)
        try:
            self._wait(process, log, lambda: self._uncounted() is not None, "the worker is not ready")
            yield
        finally:
            process.stop()

    @contextmanager
    def running(self, *command: str) -> Iterator[None]:
        """Run another command of headrace, such as ``running("trainer")`` or ``running("process")``, in the context.

        It may still be starting when the context begins. Raises ProcessDiedError, with the end of its log, if it ended
        by itself meanwhile.
        """
        log = self._folder / f"{command[0]}.log"
        process = self._start(*command, log=log)
        try:
            yield
            if not process.running:
                raise ProcessDiedError(f"headrace {' '.join(command)} ended by itself; see {log}:\n{_end(log)}")
        finally:
            process.stop()

    def counted(self, timeout: Duration = "60s") -> None:
        """Wait until every view has counted all records that its topics have now. Needs a :meth:`worker`.

        Raises ProcessDiedError, which names a view and a partition, if that takes longer.
        """
        until = time.monotonic() + duration_us(timeout) / SECOND
        while (left := self._uncounted()) is None or left:
            if time.monotonic() > until:
                what = "no view is live" if left is None else f"still to be counted: {', '.join(left[:3])}"
                log = self._folder / "worker.log"
                raise ProcessDiedError(f"after {timeout}, {what}; see {log}:\n{_end(log)}")
            time.sleep(_POLL_S)

    def remove(self) -> None:
        """Delete the project's topics. A test after it begins with empty ones."""
        client, topics = admin(self._servers), list(self.definitions.streams)
        there = existing_incarnations(client, [*topics, *map(dead_letter_topic, topics)])
        if there:
            for asked in client.delete_topics([*there]).values():
                with suppress(Exception):  # it may be gone already
                    asked.result(10)

    def _start(self, *command: str, log: Path) -> GuardedProcess:
        variables = [f"{name}={value}" for name, value in self.environment.items()]
        own = ["env", "-C", str(self.settings.root), *variables, sys.executable, "-m", "headrace", *command]
        return GuardedProcess(own, log, grace_seconds=_STOP_S)

    def _wait(self, process: GuardedProcess, log: Path, is_done: Any, what: str) -> None:
        until = time.monotonic() + _START_S
        while not is_done():
            if not process.running or time.monotonic() > until:
                raise ProcessDiedError(f"{what}; see {log}:\n{_end(log)}")
            time.sleep(_POLL_S)

    def _uncounted(self) -> list[str] | None:
        """Return the views and partitions with records to be counted; None if a view is not live yet."""
        with suppress(TransientError):
            client, views = admin(self._servers), list(self.definitions.views.values())
            topics = sorted({stream.topic for view in views for stream in view.streams})
            found = existing_incarnations(client, topics)
            store = RedisOnlineStore(self._redis_url, self.settings.namespace)
            try:
                cursors = store.cursors([view.spec.versioned_name for view in views])
            finally:
                store.close()
            left, live = [], len(found) == len(topics)
            for view, own in zip(views, cursors, strict=True):
                for topic in view.spec.topics if live else ():
                    for partition in range(found[topic].partitions):
                        ends = retained_offsets(client, topic, partition).ends
                        of = [
                            c for s, c in own.items() if (s.partition, s.topic_id) == (partition, found[topic].topic_id)
                        ]
                        live = live and bool(of) and of[0].state is CursorState.LIVE
                        if of and of[0].next_offset < ends:
                            left.append(f"{view.name} {topic}-{partition} {of[0].next_offset} of {ends}")
            return left if live else None
        return None


def settings_under_test(
    namespace: str, folder: Path, *, bootstrap_servers: str, redis_url: str, root: Path
) -> Settings:
    """Return the settings of the project at ``root``, with servers, namespace and folders of a test."""
    from headrace.app.project.settings_sources import load_settings

    flags = {
        "namespace": namespace,
        "bootstrap_servers": bootstrap_servers,
        "redis_url": redis_url,
        "data_dir": folder,
        "event_log": "{data_dir}/events",
        "registry_uri": "sqlite:///{data_dir}/registry/mlflow.db",
        "artifacts": "{data_dir}/artifacts",
    }
    return load_settings(flags, environ={}, folder=root).model_copy(update={"kafka": {}})


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]) if log.exists() else os.devnull
