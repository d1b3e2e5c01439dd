"""A chart of one feature over time as SVG: text of its own, readable on light and on dark paper."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 720, 240, 64, 12, 30, 40
COLORS = ("#3b82c4", "#d9772b", "#2f9e6e", "#b65fc2", "#c9a227")
"""They can be read on white and on black paper."""
_TICKS = 4
_BEGIN = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
    'role="img" aria-label="{}" font-family="sans-serif" font-size="11" fill="currentColor">'
)
_OWN_COLORS = "<style>svg{color:#30343b}@media(prefers-color-scheme:dark){svg{color:#d8dee9}}</style>"
"""For a file. In a page the chart has the color of the text around it."""


@dataclass(frozen=True)
class Line:
    """A line of a chart: its name, and its values at the times of the chart; None where it has a gap."""

    name: str
    values: Sequence[float | None]


def svg(title: str, times: Sequence[datetime], lines: Sequence[Line], *, is_file: bool = False) -> str:
    """Return the chart. The times ascend. ``is_file``: it brings the colors of its text along."""
    low, high = _range([value for line in lines for value in line.values if value is not None])
    parts = [
        _BEGIN.format(escape(title)),
        _OWN_COLORS if is_file else "",
        f'<text x="{_LEFT}" y="16" font-size="13" font-weight="bold">{escape(title)}</text>',
        *_level_lines(low, high),
        *_time_marks(times),
    ]
    for number, line in enumerate(lines):
        color = COLORS[number % len(COLORS)]
        for run in _runs(line.values):
            points = " ".join(f"{_x(place, len(times)):.1f},{_y(value, low, high):.1f}" for place, value in run)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.8"/>')
            if len(run) == 1:
                place, value = run[0]
                parts.append(
                    f'<circle cx="{_x(place, len(times)):.1f}" cy="{_y(value, low, high):.1f}" r="2" fill="{color}"/>'
                )
        parts.append(_legend(number, line.name, color))
    return "".join([*parts, "</svg>"])


def _range(values: Sequence[float]) -> tuple[float, float]:
    finite = [value for value in values if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    low = min(low, 0.0) if low < high / 2 else low
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _x(place: int, count: int) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (place / max(count - 1, 1))


def _y(value: float, low: float, high: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - (value - low) / (high - low))


def _runs(values: Sequence[float | None]) -> Iterator[list[tuple[int, float]]]:
    """Yield the parts of a line between its gaps, as pairs of place and value."""
    run: list[tuple[int, float]] = []
    for place, value in enumerate(values):
        if value is not None and math.isfinite(value):
            run.append((place, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _level_lines(low: float, high: float) -> Iterator[str]:
    for tick in range(_TICKS + 1):
        value = low + (high - low) * tick / _TICKS
        y = _y(value, low, high)
        yield (
            f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="currentColor" '
            f'stroke-opacity="0.15"/><text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" fill-opacity="0.75">'
            f"{value:.4g}</text>"
        )


def _time_marks(times: Sequence[datetime]) -> Iterator[str]:
    last = len(times) - 1
    is_short = (times[-1] - times[0]).days < 2  # noqa: PLR2004 - then the hour says more than the day
    for place in sorted({round(last * tick / _TICKS) for tick in range(_TICKS + 1)}):
        anchor = "start" if place == 0 else "end" if place == last else "middle"
        text = times[place].astimezone(UTC).strftime("%d %b %H:%M" if is_short else "%d %b %Y")
        yield (
            f'<text x="{_x(place, len(times)):.1f}" y="{_HEIGHT - _BOTTOM + 16}" text-anchor="{anchor}" '
            f'fill-opacity="0.75">{text}</text>'
        )


def _legend(number: int, name: str, color: str) -> str:
    x = _LEFT + number * (_WIDTH - _LEFT) // 5
    return (
        f'<rect x="{x}" y="{_HEIGHT - 16}" width="10" height="10" fill="{color}"/>'
        f'<text x="{x + 15}" y="{_HEIGHT - 7}">{escape(name[:18])}</text>'
    )
