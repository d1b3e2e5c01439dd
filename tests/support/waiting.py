"""Waiting in tests: for a condition that becomes true, and for an answer that is not there at once."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from headrace.errors import TransientError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(holds: Callable[[], bool], timeout_s: float, say: Callable[[], object] = lambda: "") -> None:
    """Wait until the condition holds; AssertionError with the answer of ``say`` after the timeout."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, say()
        time.sleep(0.02)


def eventually(ask: Callable[[], T]) -> T:
    """Ask again after each transient error, and return the answer: a new topic is not known at once."""
    for _ in range(100):
        try:
            return ask()
        except TransientError:
            time.sleep(0.05)
    return ask()
