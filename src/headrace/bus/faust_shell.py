"""Faust as the shell of a long-running process: ordered start and stop, supervision, agents on low-rate topics.

Not for the data path. Agents get their messages from readers of our own, which no record can end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import faust
import structlog
from faust.app import BootStrategy
from mode import Service

from headrace.base.background_tasks import TASKS, BackgroundTask
from headrace.base.stopping import stop_signals
from headrace.bus.topic_reader import TopicReader

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = structlog.get_logger(__name__)
T = TypeVar("T")
_PUT_S = 30.0
LOOP_ENDS_S = 5.0
"""The longest time that a stop waits for the loop, in seconds. A restart does what it had not finished."""


class _NoKafka(BootStrategy):  # type: ignore[misc]  # faust has no types
    """The services of an app without a consumer: its library ends with a record whose header has no name in UTF-8."""

    enable_kafka = False


class _App(faust.App):  # type: ignore[misc]
    """An app whose agents get their messages from readers of our own."""

    BootStrategy = _NoKafka
    logger = logging.getLogger("mode")  # what it says about its own life is of no use to a reader


def shell(name: str, data_dir: str) -> faust.App:
    """Return a Faust app. Each process of it reads every message that comes after its start: see :func:`listen`."""
    Path(data_dir).mkdir(parents=True, exist_ok=True)  # Faust makes the last folder only
    return _App(
        name,
        datadir=data_dir,
        store="memory://",
        autodiscover=False,
        web_enabled=False,
        topic_disable_leader=True,
        topic_create_topics=False,
        stream_wait_empty=False,
    )


def listen(
    app: faust.App,
    bootstrap_servers: str,
    topic: str,
    decode: Callable[[bytes | None], T],
    handler: Callable[[T], Awaitable[None]],
) -> None:
    """Call ``handler`` with each message that comes to a topic, one after the other.

    A record that ``decode`` cannot read is left out. An error of the handler is logged and shown by the task
    ``<topic> agent``, and the next record is handled: a handler must bear to miss a message.
    """
    task, channel = BackgroundTask(f"{topic} agent"), app.channel()
    TASKS.add(task)

    async def agent(stream: Any) -> None:
        async for message in stream:
            with task.attempt():
                await handler(message)

    app.agent(channel, name=f"headrace.{topic}")(agent)
    feed = _Feed(app, channel, partial(TopicReader, bootstrap_servers, topic, decode))
    app.service(feed)  # pyright: ignore[reportArgumentType]  # it takes an instance too


class _Feed(Service):  # type: ignore[misc]  # mode has no types
    """Puts what a reader reads into the channel of an agent."""

    logger = logging.getLogger("mode")

    def __init__(
        self, app: faust.App, channel: Any, reader: Callable[[Callable[[Any], None]], TopicReader[Any]], **kwargs: Any
    ) -> None:
        self._app, self._channel, self._reader = app, channel, reader(self._put)
        self._own_loop: asyncio.AbstractEventLoop | None = None
        super().__init__(**kwargs)

    async def on_start(self) -> None:
        """Let the agents take messages, and begin to read."""
        self._own_loop = asyncio.get_running_loop()
        self._app.flow_control.resume()  # Faust's own consumer would do it
        self._reader.start()

    async def on_stop(self) -> None:
        """End the reader."""
        await asyncio.to_thread(self._reader.stop)

    def _put(self, message: Any) -> None:
        """Called in the reader's thread. It waits while the agent has too many messages."""
        assert self._own_loop is not None  # noqa: S101 - the reader starts after it was set
        asyncio.run_coroutine_threadsafe(self._channel.send(value=message), self._own_loop).result(_PUT_S)


class ThreadService(Service):  # type: ignore[misc]  # mode has no types
    """Runs a blocking loop in a thread, next to the agents. If the loop raises, so does the process."""

    logger = logging.getLogger("mode")  # what mode says about its own life is of no use to a reader

    def __init__(self, run: Callable[[], None], stop: Callable[[], None], **kwargs: Any) -> None:
        self._run, self._stop_loop = run, stop
        self._thread = threading.Thread(target=self._guarded, name="headrace-loop", daemon=True)
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
        """Ask the loop to end and wait for it, :data:`LOOP_ENDS_S` at most."""
        self.end()
        await asyncio.to_thread(self._thread.join, LOOP_ENDS_S)
        if self._thread.is_alive():
            logger.warning("the loop does not end: the process ends without it", waited_s=LOOP_ENDS_S)

    def end(self) -> None:
        """Ask the loop to end. A signal during the start leaves no other way: services are not stopped then."""
        self._stop_loop()


def run_shell(app: faust.App, service: ThreadService) -> None:
    """Run until a signal, and exit when everything has stopped: with 1 if the loop failed. See `base/stopping.py`."""
    app.service(service)  # pyright: ignore[reportArgumentType]  # it takes an instance too
    for library in ("faust", "mode", "aiokafka"):
        logging.getLogger(library).setLevel(logging.WARNING)
    worker = _Shell(app, override_logging=False, redirect_stdouts=False, quiet=True)
    worker.spinner = None  # it would draw over the log lines
    with stop_signals.calling(partial(_stop, worker, service)):
        try:
            worker.execute_from_commandline()
        finally:
            service.end()


class _Shell(faust.Worker):  # type: ignore[misc]  # faust has no types
    """Faust's worker with the signals of `base/stopping.py`: its own ones wait for as long as Kafka is away."""

    def install_signal_handlers(self) -> None:
        """Leave the signals as they are."""


def _stop(worker: _Shell, service: ThreadService) -> None:
    """Ask the loop to end at once, and Faust to stop all services in order."""
    service.end()
    worker.loop.call_soon_threadsafe(worker._on_sigterm)  # noqa: SLF001 - what its own handler calls
