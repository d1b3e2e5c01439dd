"""Draws curves in a few terminal rows with braille characters, each two dots wide and four dots high."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BLANK = 0x2800
_WIDE, _HIGH = 2, 4
_BITS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Curve:
    """Values over days. NaN breaks the line. ``every=3`` draws every third dot, so that lines differ without colour."""

    days: Sequence[int]
    values: Sequence[float]
    style: str
    every: int = 1


@dataclass(frozen=True)
class Frame:
    """The range of days, the range of values (``low`` < ``high``), and the size in characters."""

    from_day: int
    to_day: int
    low: float
    high: float
    columns: int
    rows: int

    def x(self, day: float) -> int:
        """The dot column of a day, clamped to the frame."""
        share = (day - self.from_day) / max(self.to_day - self.from_day, 1)
        return round(min(max(share, 0.0), 1.0) * (self.columns * _WIDE - 1))

    def y(self, value: float) -> int:
        """The dot row of a value, counted from the top, clamped to the frame."""
        share = (self.high - value) / (self.high - self.low)
        return round(min(max(share, 0.0), 1.0) * (self.rows * _HIGH - 1))


def plot(curves: Sequence[Curve], frame: Frame) -> list[Text]:
    """Return one line of text for each row. A character where curves meet has the style of the first curve."""
    bits = [[0] * frame.columns for _ in range(frame.rows)]
    owners: list[list[str]] = [[""] * frame.columns for _ in range(frame.rows)]
    for curve in curves:
        for x, y in _dots(curve, frame):
            row, column = y // _HIGH, x // _WIDE
            bits[row][column] |= _BITS[y % _HIGH][x % _WIDE]
            owners[row][column] = owners[row][column] or curve.style
    return [_line(*row) for row in zip(bits, owners, strict=True)]


def _dots(curve: Curve, frame: Frame) -> Iterator[tuple[int, int]]:
    points = [(frame.x(day), value) for day, value in zip(curve.days, curve.values, strict=True)]
    dots = [(x, frame.y(value)) for x, value in points[:1] if math.isfinite(value)]
    for (x, value), (next_x, next_value) in pairwise(points):
        if math.isfinite(next_value):
            start = frame.y(value) if math.isfinite(value) else None
            dots += _segment(x, start, next_x, frame.y(next_value))
    return ((x, y) for x, y in dots if x % curve.every == 0)


def _segment(x: int, y: int | None, next_x: int, next_y: int) -> list[tuple[int, int]]:
    """Return the dots after (x, y) up to the next point. After a break it is only that point."""
    if y is None:
        return [(next_x, next_y)]
    steps = max(next_x - x, abs(next_y - y))
    return [(x + round((next_x - x) * i / steps), y + round((next_y - y) * i / steps)) for i in range(1, steps + 1)]


def _line(bits: list[int], owners: list[str]) -> Text:
    return Text.assemble(*((chr(_BLANK + mask), style) for mask, style in zip(bits, owners, strict=True)))
