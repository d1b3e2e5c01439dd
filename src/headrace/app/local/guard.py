"""Runs a command until it ends or its parent dies. This is a script of its own and uses only the standard library.

usage: guard.py PARENT_PID GRACE_SECONDS COMMAND…

The parent holds the write end of our standard input. We stop the command when that pipe closes, because the parent has
ended, or when our parent is no longer PARENT_PID, because a fork of the parent may keep the pipe open. If we die, even
by kill -9, the command dies too on Linux. We print the command's pid and exit with its status.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_SECONDS = 0.1
PR_SET_PDEATHSIG = 1


def main(parent: int, grace_seconds: float, command: list[str]) -> int:
    """Run `command` and return its exit status, which is negative for a signal."""
    signal.signal(signal.SIGTERM, lambda *_: sys.stdin.close())
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=2, stderr=2, preexec_fn=_dies_with_us())  # noqa: PLW1509, S603 - one thread, the caller's command
    print(child.pid, flush=True)  # noqa: T201 - the parent reads it
    while child.poll() is None:
        if _parent_gone(parent):
            return _stop(child, grace_seconds)
    return child.returncode


def _parent_gone(parent: int) -> bool:
    """Wait a moment. Returns True if the pipe is closed or our parent has changed."""
    if sys.stdin.closed or os.getppid() != parent:
        return True
    try:
        readable, _, _ = select.select([sys.stdin.fileno()], [], [], POLL_SECONDS)
        return bool(readable) and not os.read(sys.stdin.fileno(), 1)
    except (OSError, ValueError):  # closed by the signal meanwhile
        return True


def _stop(child: subprocess.Popen[bytes], grace_seconds: float) -> int:
    child.terminate()
    try:
        return child.wait(grace_seconds)
    except subprocess.TimeoutExpired:
        child.kill()
        return child.wait()


def _dies_with_us() -> Callable[[], object] | None:
    """Return the function that the child calls before it becomes the command, or None if the system has none."""
    if not sys.platform.startswith("linux"):
        return None
    return partial(ctypes.CDLL(None).prctl, PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
