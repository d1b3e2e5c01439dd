"""Named places where a test may let the process die, or stop: ``FAILPOINT=after-redis:3`` kills at the third pass.

``after-redis:3:SIGSTOP`` stops it there instead. Without the variable a failpoint costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}
_signals: dict[str, signal.Signals] = {}


def arm(setting: str | None) -> None:
    """Arm from ``name:count`` or ``name:count:SIGNAL``; None disarms all."""
    _armed.clear()
    if setting:
        name, count, sent = [*setting.split(":"), "", ""][:3]
        _signals[name] = signal.Signals[sent or "SIGKILL"]
        _armed[name] = int(count or 1)


def failpoint(name: str) -> None:
    """Die here, as by kill -9, or stop, if this failpoint is armed and its count has run down."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), _signals[name])
