"""Faust as the shell of a long-running process: ordered start and stop, supervision, agents on low-rate topics.

Not for the data path. An agent here never raises: an exception in Faust acknowledges the batch.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
import structlog
from mode import Service

logger = structlog.get_logger(__name__)
Handler = Callable[[bytes], Awaitable[None]]


def shell(name: str, bootstrap_servers: str, data_dir: str) -> faust.App:
    """Return a Faust app with a consumer group of its own.

    So each process reads every message that comes after its start.
    """
    Path(data_dir).mkdir(parents=True, exist_ok=True)  # Faust makes the last folder only
    return faust.App(
        name,
        broker=[f"kafka://{server}" for server in bootstrap_servers.split(",")],
        datadir=data_dir,
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_create_topics=False,
        consumer_auto_offset_reset="latest",
        stream_wait_empty=False,
        broker_commit_interval=1.0,
    )


def listen(app: faust.App, topic: str, handler: Handler) -> None:
    """Call ``handler`` with each record's value, one after the other. An error that it raises is logged."""

    async def agent(stream: Any) -> None:
        async for value in stream:
            try:
                await handler(value)
            except Exception:
                logger.exception("handling a message failed", topic=topic)

    channel = app.topic(topic, value_serializer="raw", value_type=bytes, internal=False)
    app.agent(channel, name=f"headrace.{topic}")(agent)


class ThreadService(Service):  # type: ignore[misc]  # mode has no types
    """Runs a blocking loop in a thread, next to the agents. If the loop raises, so does the process."""

    logger = logging.getLogger("mode")  # what mode says about its own life is of no use to a reader

    def __init__(self, run: Callable[[], None], stop: Callable[[], None], **kwargs: Any) -> None:
        self._run, self._stop_loop = run, stop
        self._thread = threading.Thread(target=self._guarded, name="headrace-loop")
        self._ended: asyncio.Event | None = None
        self._error: BaseException | None = None
        super().__init__(**kwargs)

    def _guarded(self) -> None:
        try:
            self._run()
        except BaseException as error:
            logger.exception("the loop failed")
            self._error = error

    async def on_start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @Service.task  # type: ignore[untyped-decorator]
    async def _watch(self) -> None:
        while not self.should_stop:
            if not self._thread.is_alive():
                raise self._error or RuntimeError("the loop ended by itself")
            await asyncio.sleep(0.2)

    async def on_stop(self) -> None:
        """Ask the loop to end and wait for it."""
        self.end()
        await asyncio.to_thread(self._thread.join)

    def end(self) -> None:
        """Ask the loop to end. A signal during the start leaves no other way: services are not stopped then."""
        self._stop_loop()


def run_shell(app: faust.App, service: ThreadService) -> None:
    """Run until a signal, and return when everything has stopped. Exit the process with 1 if the loop failed."""
    app.service(service)  # pyright: ignore[reportArgumentType]  # it takes an instance too
    for library in ("faust", "mode", "aiokafka"):
        logging.getLogger(library).setLevel(logging.WARNING)
    worker = faust.Worker(app, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it would draw over the log lines
    try:
        worker.execute_from_commandline()
    finally:
        service.end()
