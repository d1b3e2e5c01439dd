"""Draws the chart of the demo: rolling AUC of the live model and of the first, frozen model, as a PNG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from headrace.errors import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TITLE = "The model that retrains itself against the first one, left alone"
_INCHES, _DPI = (12, 6), 100
_LIVE, _FROZEN, _VERSION, _TEXT = "#1a7f4b", "#c2571a", "#5b6b8c", "#30343b"
_CLOSE = 0.045
"""Labels that are nearer than this share of the width alternate between two heights."""


def draw(
    path: Path,
    days: Sequence[int],
    live: Sequence[float],
    frozen: Sequence[float],
    versions: Sequence[tuple[int, int]],
    *,
    title: str = TITLE,
    ylabel: str = "rolling AUC",
) -> None:
    """Write a PNG of 1200 x 600 pixels. With one matplotlib, the same arguments give the same bytes.

    ``days`` are days since the epoch. ``live`` and ``frozen`` have the AUC at the end of each day, or NaN. ``versions``
    are pairs of a version and the day of its publication. Raises MissingExtraError without matplotlib.
    """
    matplotlib = require("matplotlib", "demo")
    figures = require("matplotlib.figure", "demo")
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        figure = figures.Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        _curves(axes, days, live, frozen)
        _frame(axes, title, ylabel)
        _versions(axes, versions)
        figure.savefig(path, format="png", metadata={"Software": None})


def _curves(axes: Any, days: Sequence[int], live: Sequence[float], frozen: Sequence[float]) -> None:
    if not any(math.isfinite(value) for value in [*live, *frozen]):
        axes.text(0.5, 0.5, "no AUC: the run was too short", transform=axes.transAxes, ha="center", color=_TEXT)
        axes.set_xlim(min(days, default=0) - 1, max(days, default=30) + 1)
        return
    axes.fill_between(days, frozen, live, color=_LIVE, alpha=0.08, linewidth=0)
    for values, color, name in ((frozen, _FROZEN, "frozen: version 1 throughout"), (live, _LIVE, "live: hot-swapped")):
        axes.plot(days, values, color=color, linewidth=2.2, label=_with_last(name, values))
    axes.margins(x=0.01, y=0.12)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2, frameon=False, fontsize=11)


def _with_last(name: str, values: Sequence[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{name} ({finite[-1]:.3f} at the end)" if finite else name


def _frame(axes: Any, title: str, ylabel: str) -> None:
    dates = require("matplotlib.dates", "demo")
    locator = dates.AutoDateLocator(minticks=4, maxticks=12)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, offset_formats=["", *["%Y"] * 5]))
    axes.set_title(title, loc="left", fontsize=14, color=_TEXT, pad=34)
    axes.set_ylabel(ylabel, color=_TEXT)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color="#e6e8ec", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_TEXT)


def _versions(axes: Any, versions: Sequence[tuple[int, int]]) -> None:
    """Draw a line for each version, with its number above the plot. The plot is widened to the first one."""
    low, high = axes.get_xlim()
    low, high = min([low, *(day - 1 for _, day in versions)]), max([high, *(day + 1 for _, day in versions)])
    axes.set_xlim(low, high)
    last, height = -math.inf, 0
    for version, day in sorted(versions, key=lambda pair: (pair[1], pair[0])):
        height = 1 - height if (day - last) / (high - low) < _CLOSE else 0
        last = day
        axes.axvline(day, color=_VERSION, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        at = (day, 1.0)
        axes.annotate(
            f"v{version}", at, xycoords=axes.get_xaxis_transform(), xytext=(0, 4 + 13 * height),
            textcoords="offset points", ha="center", color=_VERSION, fontsize=11, fontweight="bold",
        )  # fmt: skip
