"""Formats times, numbers and unknown values for the demo."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headrace.base.times import utc_datetime

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.app.demo.state import DecisionLine, DemoState

UNKNOWN = "-"
STYLES = {
    "fired": "bold yellow",
    "published": "bold green",
    "passed": "green",
    "refused": "bold red",
    "postponed": "magenta",
    "failed": "bold white on red",
    "not now": "dim",
}


def format_day(t_us: int) -> str:
    """Return the date of an event time."""
    return f"{utc_datetime(t_us):%Y-%m-%d}"


def format_minute(t_us: int) -> str:
    """Return an event time to the minute."""
    return f"{utc_datetime(t_us):%Y-%m-%d %H:%M}"


def format_clock(state: DemoState) -> str:
    """Return the event time of the replay to the minute."""
    return format_minute(state.event_us or state.from_us)


def short_reason(decision: DecisionLine) -> str:
    """Return the reason of a decision without its first word, which another column shows."""
    return decision.reason.removeprefix(f"{decision.what}: ")


def share_done(state: DemoState) -> float:
    """Return the share of the replay that is done, from 0 to 1."""
    span = max(state.to_us - state.from_us, 1)
    return min(max((state.event_us - state.from_us) / span, 0.0), 1.0)


def last_finite(values: list[float]) -> float:
    """Return the last value that is a number, or NaN."""
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)


def format_number(value: object, form: str = ",") -> str:
    """Return a number in this format. ``-`` stands for None, NaN and anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return UNKNOWN
    return format(value, form)


def format_milliseconds(value: float) -> str:
    """Return milliseconds with few digits; from ten seconds on, seconds."""
    if value >= 10_000:  # noqa: PLR2004 - ten seconds
        return f"{value / 1_000:,.0f} s"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"  # noqa: PLR2004


def format_elapsed(seconds: float) -> str:
    """Return minutes and seconds: ``2:05``."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def to_encodable(console: Console, text: str) -> str:
    """Return the text with ``?`` for characters that the console's encoding lacks, such as an arrow in latin-1."""
    return text.encode(console.encoding, "replace").decode(console.encoding)
