"""docs/explanation/evidence.md: the tables between its markers, from the studies of `evidence` alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import evidence_charts
from .page import BEGIN, END

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = Path("docs/explanation/evidence.md")


def write(studies: Mapping[str, Any], page: Path = PAGE) -> None:
    """Replace what is between the page's markers, and draw its pictures beside it."""
    evidence_charts.draw(page.parent, studies)
    tables = f"{BEGIN}\n\n{render(studies)}\n\n{END}"
    text = page.read_text("utf-8")
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: tables, text, flags=re.DOTALL), "utf-8")


def render(studies: Mapping[str, Any]) -> str:
    """The tables of all studies that were made."""
    parts = {
        "looks": _looks,
        "rows": _rows,
        "entities": _entities,
        "years": _years,
        "power": _power,
        "smallest": _smallest,
        "coverage": _coverage,
    }
    return "\n\n".join(part(studies[name]) for name, part in parts.items() if studies.get(name))


def _looks(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [each["blocks"], each["gains"], *(_share(each[name]) for name in ("ignored", "measured", "postponed"))]
        for each in found
    ]
    head = ["blocks", "gains of blocks", "correlation ignored", "measured (the default)", "measured: postponed"]
    return f"**False passes a look**, where both models are equally good:\n\n{_table(head, rows)}"


def _rows(found: Sequence[Mapping[str, Any]]) -> str:
    names = ("ignored", "measured")
    rows = [
        [f"`{each['metric']}`", each["correlation"], f"{each['lag1']:.2f}", *(_share(each[name]) for name in names)]
        for each in found
    ]
    said = ("ignored", "measured (the default)")
    head = ["metric", "correlation of a model's errors on days", "of the gain, as measured", *said]
    title = "**False passes a look at rows**, 300 a day for 14 days, where both models are equally good:"
    return f"{title}\n\n{_table(head, rows)}"


def _entities(found: Sequence[Mapping[str, Any]]) -> str:
    names = ("rows", "days", "entities")
    rows = [
        [
            f"`{each['metric']}`",
            f"{each['of']:,}",
            *(_share(each[name]) if name in each else "" for name in names),
        ]
        for each in found
    ]
    head = ["metric", "entities", *(f"blocks are {name}" for name in names)]
    title = (
        "**False passes a look at rows of entities**, 300 a day for 14 days, where each model errs on all rows of an "
        "entity alike, and both are equally good:"
    )
    return f"{title}\n\n{_table(head, rows)}"


def _years(found: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in found[0] if name not in {"correlation", "holdout"}]
    rows = [[f"{each['holdout']}d", each["correlation"], *(_share(each[name]) for name in names)] for each in found]
    head = [
        "holdout",
        "lag-1 correlation",
        *(_policy(name) for name in names),
    ]
    return f"**Years with a false pass**, of weekly looks:\n\n{_picture('years')}\n\n{_table(head, rows)}"


def _policy(name: str) -> str:
    said = name.replace("look,", "2.5 % a look,").replace("year,", "5 % a year,")
    return f"{said} (the default)" if name == "look, measured" else said


def _power(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [f"`{each['metric']}`", f"{each['gain']:.4f}", f"{each['holdout']}d", policy]
        + [_share(by_day[day]) if day in by_day else "" for day in ("14", "21", "28")]
        for each in found
        for policy, by_day in each["found_by_day"].items()
    ]
    head = ["metric", "mean gain", "holdout", "policy", "found by day 14", "by day 21", "by day 28"]
    title = "**A real gain that is found**, at 1,000 rows a day, by weekly looks, where days are independent:"
    return f"{title}\n\n{_picture('power')}\n\n{_table(head, rows)}"


def _smallest(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            f"`{each['metric']}`",
            f"{each['holdout']}d",
            f"{each['champion']:.4f}",
            f"{each['challenger']:.4f}",
            f"{each['gain']:.4f}" if each["metric"] == "auc" else _share(each["gain"] / each["champion"]),
        ]
        for each in found
    ]
    head = ["metric", "holdout", "champion", "challenger", "smallest gain"]
    title = (
        "**The smallest gain that is found in 80 % of cases** by a gate with its defaults, at 1,000 rows a day within "
        f"28 days, where days are independent; from {found[0]['cases']} cases for each gain that was tried:"
    )
    return f"{title}\n\n{_table(head, rows)}"


def _coverage(found: Sequence[Mapping[str, Any]]) -> str:
    shares = [("14", "one"), ("14", "no_gain"), ("14", "gain"), ("28", "one"), ("28", "no_gain"), ("28", "gain")]
    shares.append(("14", "too_high"))
    rows = [[f"`{each['metric']}`", *(_share(each[blocks][share]) for blocks, share in shares)] for each in found]
    kinds = ("one model", "no gain", "a gain")
    head = ["metric", *(f"{blocks} blocks: {kind}" for blocks in (14, 28) for kind in kinds)]
    head.append("14 blocks, no gain: the lower bound is above 0")
    return f"**95 % intervals that hold the true value**, where blocks are independent:\n\n{_table(head, rows)}"


def _picture(name: str) -> str:
    said = {"years": "years with a false pass, by policy", "power": "real gains that are found, by policy"}
    return f"![{said[name]}](evidence-{name}.png)"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _share(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")
