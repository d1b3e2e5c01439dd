"""Named places where a test may let the process die: ``FAILPOINT=after-redis:3`` kills at the third pass.

Without the variable a failpoint costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}


def arm(setting: str | None) -> None:
    """Arm from ``name:count``; None disarms all."""
    _armed.clear()
    if setting:
        name, _, count = setting.partition(":")
        _armed[name] = int(count or 1)


def failpoint(name: str) -> None:
    """Die here, as by kill -9, if this failpoint is armed and its count has run down."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
