"""A growth chart as a PNG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_INCHES, _DPI = (9, 4.5), 100
_LINE, _TEXT = "#1a7f4b", "#30343b"


def draw(path: Path, name: str, rates: Mapping[int, float], *, what: str = "events") -> None:
    """Write a PNG of 900 x 450 pixels: ``what`` a second by number of ``name``, both from the mapping."""
    matplotlib = require("matplotlib", "demo")
    figures = require("matplotlib.figure", "demo")
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        figure = figures.Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        axes.plot(list(rates), list(rates.values()), color=_LINE, linewidth=2.2, marker="o")
        _frame(axes, name, rates, what)
        figure.savefig(path, format="png", metadata={"Software": None})


def _frame(axes: Any, name: str, rates: Mapping[int, float], what: str) -> None:
    axes.set_title(f"{what.capitalize()} a second by number of {name}", loc="left", fontsize=14, color=_TEXT)
    axes.set_xscale("log")
    axes.set_xticks(list(rates), [f"{count:,}" for count in rates])
    axes.minorticks_off()
    axes.set_ylim(bottom=0, top=1.15 * max(rates.values()))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(name, color=_TEXT)
    axes.set_ylabel(f"{what}/s", color=_TEXT)
    axes.set_axisbelow(True)
    axes.grid(visible=True, color="#e6e8ec", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=_TEXT)
