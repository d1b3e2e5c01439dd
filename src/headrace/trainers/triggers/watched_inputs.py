"""Watched inputs: the nulls, the unseen categories and the label of a model, in the newest days and in those before.

They are reported, and open an evaluation if one is out of range. They never ask for a run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.message import Int64
from headrace.trainers.triggers.compared_days import SAMPLES_IN_REFERENCE

if TYPE_CHECKING:
    from collections.abc import Sequence

FALSE_MARKS_A_YEAR = 1
"""The days of a year on which an input of a model is out of range by chance: all of its inputs together."""
SAMPLE_DAYS = 14
NEEDED_DAYS = SAMPLES_IN_REFERENCE * SAMPLE_DAYS
LABEL = "label"
_NAMED = 3
_WORDS = {"nulls": "null", "unseen": "never seen before", "rate": "true"}


class WatchedInput(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A share of the rows, or a mean, ``lately`` and ``before``.

    It lies between ``low`` and ``high`` if the newest days are like those before. Beyond that it is ``out`` of range.

    ``input`` is a feature or the label. ``what`` is the share of ``nulls``, of values that were ``unseen`` before their
    two weeks, the ``rate`` of true labels, their ``mean``, or the share of a class, such as ``class late``. ``days``
    is the number of days before. If these are too few, only ``lately`` is known.
    """

    input: str
    what: str
    days: Int64
    lately: float
    before: float | None = None
    low: float | None = None
    high: float | None = None
    out: bool = False

    @property
    def reason(self) -> str:
        """How it is lately, how it was before, and what chance alone may make of that."""
        words = f"mean {self.said(self.lately)}" if self.what == "mean" else f"{self.said(self.lately)} {self._words}"
        return f"{self.input} {words}, before {self.said(self.before)}, by chance {self.by_chance}"

    @property
    def by_chance(self) -> str | None:
        """The range that chance may make, in words, if it is known."""
        if self.low is None:
            return None
        return f"{self.said(self.low)} to {self.said(self.high)}"

    @property
    def lacking(self) -> str | None:
        """Of which days there are too few to judge it, in words."""
        if self.before is not None:
            return None
        return f"{self.days} of {NEEDED_DAYS} days before" if self.days < NEEDED_DAYS else "too few days lately"

    @property
    def _words(self) -> str:
        return _WORDS.get(self.what, f"of {self.what}")

    def said(self, number: float | None) -> str:
        """Return a share as a percentage, and a mean as a number."""
        if number is None:
            return "-"
        return f"{number:.4g}" if self.what == "mean" else f"{number:.2%}"


def marked(watched: Sequence[WatchedInput]) -> dict[str, Any]:
    """Return the part of a decision's inputs that names what is out of range. Nothing is: nothing is added."""
    out = [each for each in watched if each.out]
    return {"watched": msgspec.to_builtins(out)} if out else {}


def marks_of(inputs: dict[str, Any]) -> list[WatchedInput]:
    """Return what was out of range, from a decision's inputs."""
    return msgspec.convert(inputs.get("watched", []), list[WatchedInput])


def with_marks(reason: str, inputs: dict[str, Any]) -> str:
    """Return a decision's reason with the inputs that are out of range, if there are any."""
    marks = marks_of(inputs)
    return f"{reason}; out of range: {said_marks(marks)}" if marks else reason


def said_marks(marks: Sequence[WatchedInput]) -> str:
    """Return the first inputs that are out of range, and the number of the others, in words."""
    others = f"; and {len(marks) - _NAMED} others" if len(marks) > _NAMED else ""
    return "; ".join(each.reason for each in marks[:_NAMED]) + others
