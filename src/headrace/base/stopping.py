"""The one way in which processes end: at a SIGTERM or Ctrl-C, within ten seconds, in every state.

A process registers a function that stops it. A signal calls this function; if none is registered yet, the signal
becomes an exception. A thread looks at the clock meanwhile. If a part still waits when the grace period is over, for
example for a Kafka that is away, the process ends all the same. This is safe: work that is not durable yet is not
acknowledged either, so a restart does it again, as after kill -9.
"""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from multiprocessing.connection import wait
from typing import TYPE_CHECKING

import structlog

from headrace.base.process_tree import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 8.0
"""The time after a signal in which a process stops in order. After it the process ends at once."""
_BACKSTOP_S = 1.0
"""Sometimes no Python code runs any more, as while the interpreter ends. This much later the C library ends it."""
_WAKES, _WAKE_S = signal.SIGURG, 0.05
"""The signal that interrupts what the main thread waits for. It has no other effect."""
_SHOWN_FRAMES = 2
_NOT_WAITED_FOR = (
    "the process ends although a part of it has not stopped yet; nothing is lost: what was not finished is done again "
    "at the next start"
)
logger = structlog.get_logger(__name__)


class StopSignals:
    """The signals that end this process. ``asked`` is set as soon as one has come, also while Python code cannot run.

    Long waits look at ``asked`` and give up early. Signals are handled from :meth:`install` on.
    """

    def __init__(self, grace_s: float = GRACE_S, *, end: Callable[[int], object] = os._exit) -> None:
        self.asked = threading.Event()
        self._grace_s, self._end = grace_s, end
        self._received_one = threading.Event()
        self._stops: list[Callable[[], object]] = []
        self._before: dict[int, object] = {}
        self._begins_again = False

    def install(self) -> None:
        """Handle the signals from now on. A second call, and a call from another thread than the main one, do nothing.

        As the first process of a container, a process without a handler ignores SIGTERM.
        """
        if self._before or threading.current_thread() is not threading.main_thread():
            return
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)  # written to although the main thread is in C code
        self._before = {number: signal.signal(number, self._received) for number in SIGNALS}
        signal.signal(_WAKES, lambda *_: None)
        threading.Thread(target=self._watch, args=(reading,), name="headrace-stop", daemon=True).start()

    def begin_again(self) -> None:
        """Stop this process as a signal does, and start it anew with the same arguments and the same process id."""
        self._begins_again = True
        os.kill(os.getpid(), signal.SIGTERM)

    def leave(self, code: int) -> None:
        """End the process at once with this exit code, or start it anew if that was asked for."""
        for output in (sys.stdout, sys.stderr):
            output.flush()
        if self._begins_again:
            os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - the command that runs now
        self._end(code)

    @contextmanager
    def calling(self, stop: Callable[[], object]) -> Iterator[None]:
        """Let a signal call ``stop`` in the main thread, as long as the context lasts."""
        self.install()
        self._stops.append(stop)
        try:
            yield
        finally:
            self._stops.remove(stop)

    def _received(self, number: int, _: FrameType | None) -> None:
        self.asked.set()
        self._received_one.set()
        if self._stops:
            self._stops[-1]()
        elif not threading.main_thread().is_alive():
            self.leave(128 + number)  # Python waits for other threads then, and would ignore an exception
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            sys.exit(128 + number)

    def _watch(self, reading: int) -> None:
        while number := os.read(reading, 1):
            if number[0] in SIGNALS:
                self.asked.set()
                faulthandler.dump_traceback_later(self._grace_s + _BACKSTOP_S, exit=True)
                self._wait()
                logger.error(_NOT_WAITED_FOR, waited_s=self._grace_s, waiting=_places())
                self.leave(128 + number[0])
                return

    def _wait(self) -> None:
        """Wait for the grace period. Interrupt the main thread until it has received the signal.

        A library may have a handler of its own below Python's, as Polars has for Ctrl-C. With it the operating system
        goes on with what the main thread waits for, such as the line of a pipe, in place of interrupting it.
        """
        until_s, main = time.monotonic() + self._grace_s, threading.main_thread().ident
        while not self._received_one.wait(_WAKE_S) and time.monotonic() < until_s and main is not None:
            signal.pthread_kill(main, _WAKES)
        time.sleep(max(until_s - time.monotonic(), 0.0))


stop_signals = StopSignals()
"""The signals of this process."""


def _places() -> dict[str, str]:
    """Return the place in the code that each thread has reached, without values."""
    frames = sys._current_frames()  # noqa: SLF001 - there is no other way to see another thread's place
    names = {thread.ident: thread.name for thread in threading.enumerate() if thread is not threading.current_thread()}
    return {
        name: " < ".join(f"{os.path.basename(at.filename)}:{at.lineno} {at.name}" for at in reversed(stack))  # noqa: PTH119
        for ident, name in names.items()
        if ident in frames and (stack := traceback.extract_stack(frames[ident])[-_SHOWN_FRAMES:])
    }


def end_with_parent() -> None:
    """Let this child of `multiprocessing` die with the process that made it, also after kill -9. Others: no effect.

    On Linux the operating system kills the child when its parent dies. A thread also kills it when the pipe to the
    process that asked for it closes: with a fork server, this process is not the parent.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    die_with_parent()
    threading.Thread(target=_end_after, args=(parent.sentinel,), name="headrace-parent", daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
