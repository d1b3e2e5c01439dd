"""The pictures of docs/explanation/evidence.md, as PNGs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import require

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

YEARS = {
    "look, ignored": ("2.5 % a look, correlation ignored", "#b5543c"),
    "look, measured": ("2.5 % a look (the default)", "#e0a458"),
    "year, ignored": ("5 % a year, correlation ignored", "#8aa5c8"),
    "year, measured": ("5 % a year", "#1a7f4b"),
}
_POWER = ("#b5543c", "#e0a458", "#1a7f4b")
_INCHES, _DPI, _TEXT = (9, 4.5), 100, "#30343b"


def draw(folder: Path, studies: Mapping[str, Any]) -> None:
    """Write the pictures of the studies into the folder: years with a false pass, and gains that are found."""
    _save(folder / "evidence-years.png", _years, [each for each in studies["years"] if each["holdout"] == 14])  # noqa: PLR2004
    _save(folder / "evidence-power.png", _power, [each for each in studies["power"] if each["holdout"] == 14])  # noqa: PLR2004


def _save(path: Path, draws: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    matplotlib, figures = require("matplotlib", "demo"), require("matplotlib.figure", "demo")
    path.parent.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # whatever the user's matplotlibrc says
        figure = figures.Figure(figsize=_INCHES, dpi=_DPI, layout="constrained")
        axes = figure.subplots()
        draws(axes, rows)
        axes.set_ylim(0, 100)
        axes.yaxis.set_major_formatter("{x:.0f} %")
        axes.set_axisbelow(True)
        axes.grid(visible=True, axis="y", color="#e6e8ec", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=_TEXT)
        figure.legend(loc="outside lower center", ncols=2, frameon=False, labelcolor=_TEXT)
        figure.savefig(path, format="png", metadata={"Software": None})


def _years(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    places, width = np.arange(len(rows)), 0.8 / len(YEARS)
    for number, (policy, (said, color)) in enumerate(YEARS.items()):
        shares = [100 * each[policy] for each in rows]
        axes.bar(places + (number - 1.5) * width, shares, width, label=said, color=color)
    axes.axhline(5, color=_TEXT, linewidth=1, linestyle="--")
    names = [each["correlation"] if len(each["correlation"]) < 4 else "slow drift\nbelow noise" for each in rows]  # noqa: PLR2004
    axes.set_xticks(places, names)
    axes.set_xlabel("how much a day is like the day before (lag-1 correlation)", color=_TEXT)
    axes.set_title("Years in which a challenger passes that is no better", loc="left", fontsize=14, color=_TEXT)


def _power(axes: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    for (policy, by_day), color in zip(rows[0]["found_by_day"].items(), _POWER, strict=True):
        days, shares = [int(day) for day in by_day], [100 * share for share in by_day.values()]
        axes.plot(days, shares, color=color, linewidth=2.2, marker="o", label=policy)
    axes.set_xticks([14, 21, 28])
    axes.set_xlabel("days of answers, 1,000 a day", color=_TEXT)
    axes.set_title(f"A gain of {rows[0]['gain']:.3f} AUC that is found", loc="left", fontsize=14, color=_TEXT)
