"""A process and everything that it started: its memory, and its end.

On Linux the kernel is asked through ``/proc``, and orphans come back to the process that adopts them, so that nothing
escapes. Elsewhere only the process group is known.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ROUNDS, _PAUSE_S = 200, 0.01
_PROC = Path("/proc")
IS_LINUX = sys.platform.startswith("linux")


def die_with_parent() -> None:
    """Let the kernel kill this process when the process that made it dies, on Linux."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent dies, on Linux."""
    if IS_LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def descendants(pid: int) -> list[int]:
    """Return the children of a process, their children, and so on. Empty where there is no ``/proc``."""
    children: dict[int, list[int]] = {}
    for name in os.listdir(_PROC) if IS_LINUX else ():  # noqa: PTH208 - names alone, twice as fast
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError, ValueError):
                after_name = (_PROC / name / "stat").read_bytes().rpartition(b")")[2]
                children.setdefault(int(after_name.split()[1]), []).append(int(name))
    found, waiting = list[int](), [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def memory_below(pid: int) -> int:
    """Return the bytes of memory that the descendants of a process hold together. Shared memory counts once."""
    below = descendants(pid)
    return sum(map(_resident, below)) if len(below) == 1 else sum(map(_share, below))


def _resident(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int((_PROC / str(pid) / "statm").read_bytes().split()[1]) * os.sysconf("SC_PAGESIZE")
    return 0


def _share(pid: int) -> int:
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in (_PROC / str(pid) / "smaps_rollup").read_bytes().splitlines():
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) * 1_024
    return _resident(pid)


def kill_below(group: int) -> None:
    """Kill the process group ``group``, and all descendants of this process, until there are none."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
    for _ in range(_ROUNDS):
        _reap()
        below = descendants(os.getpid())
        if not below:
            return
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
