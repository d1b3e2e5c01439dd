"""Imported first by a fork server of this process, so that it ends with it, also while it still imports libraries.

A fork server looks whether its maker is there only after it has imported everything, which takes seconds.
"""

from __future__ import annotations

import ctypes
import signal
import sys

_PR_SET_PDEATHSIG = 1


def is_fork_server() -> bool:
    """Return whether this process is a fork server, or was forked from one."""
    return any("multiprocessing.forkserver" in argument for argument in sys.orig_argv)


if sys.platform.startswith("linux") and is_fork_server():  # importing it anywhere else does nothing
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
