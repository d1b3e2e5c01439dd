"""A model that fails is tried less often."""

from __future__ import annotations

from headrace.trainers.process.evaluations import Backoff


def test_each_error_doubles_the_ticks_until_the_next_try() -> None:
    backoff, tried = Backoff(), []
    for tick in range(70):
        if not backoff.holds("m"):
            tried.append(tick)
            backoff.failed("m")
    assert tried == [0, 1, 3, 7, 15, 31, 63]
    backoff.worked("m")
    assert not backoff.holds("m")
