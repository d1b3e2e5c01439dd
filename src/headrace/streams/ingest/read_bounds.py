"""How far a source of database rows may read, so that no row of a transaction that commits late is passed over.

A row can become visible after rows with a higher watermark: its transaction took its time, or its number, and has not
ended yet. So a bound is chosen first, and is read up to only after every transaction that ran at that moment has ended.
A transaction that begins later gives its rows a watermark above the bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_MOST = 100
"""The bounds that wait at the same time. While a transaction is open for long, no more are added."""


@dataclass(frozen=True)
class Running:
    """The transactions that run at a moment. ``prepared`` are those of a two-phase commit, looked at after the others.

    >>> Running(frozenset({"3/17"}), frozenset()).all
    frozenset({'3/17'})
    """

    open: frozenset[str]
    prepared: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        """Both kinds."""
        return self.open | self.prepared


@dataclass(frozen=True)
class _Bound:
    watermark: str
    chosen_s: float
    waits_for: AbstractSet[str]
    is_settled: bool = False

    def after(self, running: Running) -> _Bound:
        """Return it with the transactions that it still waits for."""
        rest = self.waits_for & running.all
        if self.is_settled or rest & running.open:
            return replace(self, waits_for=rest)
        # An open one may have become a prepared one, under another name: those that are there now are waited for.
        return replace(self, waits_for=running.prepared, is_settled=True)


class ReadBounds:
    """The bounds of one source. Pure: times and transactions are arguments.

    ``lag_s`` seconds pass at least between the choice of a bound and its use. A transaction is waited for ``longest_s``
    seconds at most: rows of one that is open for longer can be lost.

    >>> bounds = ReadBounds(lag_s=1.0, longest_s=3600.0)
    >>> busy, idle = Running(frozenset({"3/17"}), frozenset()), Running(frozenset(), frozenset())
    >>> bounds.add("100", 0.0, busy)
    >>> bounds.usable(5.0, busy), bounds.usable(6.0, idle)
    (None, '100')
    """

    def __init__(self, *, lag_s: float, longest_s: float) -> None:
        self._lag_s, self._longest_s = lag_s, longest_s
        self._waiting: list[_Bound] = []
        self._usable: str | None = None
        self._read: str | None = None
        self.was_given_up = False
        """True if the last usable bound was used although a transaction that it waited for was still open."""

    def add(self, watermark: str, now_s: float, running: Running) -> None:
        """Add a bound. ``running`` was looked at after ``watermark`` was chosen. The same watermark is added once."""
        last = self._waiting[-1].watermark if self._waiting else self._usable or self._read
        if len(self._waiting) < _MOST and watermark != last:
            self._waiting.append(_Bound(watermark, now_s, running.all))

    def usable(self, now_s: float, running: Running) -> str | None:
        """Return the newest bound up to which all rows can be read; None if there is none yet."""
        self._waiting = [bound.after(running) for bound in self._waiting]
        free = [place for place, bound in enumerate(self._waiting) if self._is_free(bound, now_s)]
        if free:
            found = self._waiting[free[-1]]
            self._usable, self.was_given_up = found.watermark, bool(found.waits_for)
            del self._waiting[: free[-1] + 1]
        return self._usable

    def was_read(self) -> None:
        """Note that all rows up to the usable bound were read."""
        self._usable, self._read = None, self._usable

    def _is_free(self, bound: _Bound, now_s: float) -> bool:
        age_s = now_s - bound.chosen_s
        return age_s >= self._lag_s and (not bound.waits_for or age_s >= self._longest_s)
