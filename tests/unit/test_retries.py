"""Waits between tries: they double to a bound, with jitter, and start again after a success."""

from __future__ import annotations

from headrace.streams.plane.retries import Retries


class Hands:
    """A clock that a test sets."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def waits(retries: Retries[str], clock: Hands, count: int) -> list[float]:
    found = []
    for _ in range(count):
        start = clock.now
        retries.later("a")
        while not retries.due():
            clock.now += 0.0625
        found.append(clock.now - start)
    return found


def test_waits_double_to_a_bound() -> None:
    clock = Hands()
    retries: Retries[str] = Retries(0.25, 1.0, monotonic=clock, chance=lambda: 0.999_999)
    assert waits(retries, clock, 5) == [0.25, 0.5, 1.0, 1.0, 1.0]


def test_jitter_takes_up_to_half_of_a_wait() -> None:
    clock = Hands()
    assert waits(Retries(0.25, 1.0, monotonic=clock, chance=lambda: 0.0), clock, 4) == [0.125, 0.25, 0.5, 0.5]


def test_after_a_success_the_first_wait_comes_again() -> None:
    clock = Hands()
    retries: Retries[str] = Retries(0.25, 5.0, monotonic=clock, chance=lambda: 0.999_999)
    assert waits(retries, clock, 3) == [0.25, 0.5, 1.0]
    retries.settled("a")
    assert waits(retries, clock, 1) == [0.25]


def test_asking_again_while_waiting_changes_nothing() -> None:
    clock = Hands()
    retries: Retries[str] = Retries(0.25, 5.0, monotonic=clock, chance=lambda: 0.999_999)
    for _ in range(5):
        retries.later("a")
    retries.settled("a")  # said of what waits, it means nothing
    assert "a" in retries
    clock.now += 0.25
    assert retries.due() == ["a"]
    assert waits(retries, clock, 1) == [0.5]
    retries.later("a")
    retries.forget("a")
    assert "a" not in retries
