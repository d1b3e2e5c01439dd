"""How the demo writes times, numbers and what is not known."""

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


def day(t_us: int) -> str:
    """The date of an event time."""
    return f"{utc_datetime(t_us):%Y-%m-%d}"


def minute(t_us: int) -> str:
    """An event time to the minute."""
    return f"{utc_datetime(t_us):%Y-%m-%d %H:%M}"


def clock(state: DemoState) -> str:
    """The event time to the minute; the start of the replay before the first step."""
    return minute(state.event_us or state.from_us)


def reason(decision: DecisionLine) -> str:
    """Its reason, without the word that stands beside it anyway."""
    return decision.reason.removeprefix(f"{decision.what}: ")


def share_done(state: DemoState) -> float:
    """How much of the replay is behind, from 0 to 1."""
    span = max(state.to_us - state.from_us, 1)
    return min(max((state.event_us - state.from_us) / span, 0.0), 1.0)


def last_finite(values: list[float]) -> float:
    """The newest value that is a number, or NaN."""
    return next((value for value in reversed(values) if math.isfinite(value)), math.nan)


def number(value: object, form: str = ",") -> str:
    """A number in that format; ``-`` for None, NaN and whatever is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return UNKNOWN
    return format(value, form)


def milliseconds(value: float) -> str:
    """Milliseconds with a sensible number of digits; seconds from ten of them on."""
    if value >= 10_000:  # noqa: PLR2004 - ten seconds
        return f"{value / 1_000:,.0f} s"
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"  # noqa: PLR2004


def elapsed(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def encodable(console: Console, text: str) -> str:
    """The text with ``?`` for what the console's encoding lacks: an arrow must not end the demo in a latin-1 log."""
    return text.encode(console.encoding, "replace").decode(console.encoding)
