"""docs/explanation/evidence.md: the tables between its markers, from the studies of `evidence` alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .page import BEGIN, END

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PAGE = Path("docs/explanation/evidence.md")


def write(studies: Mapping[str, Any], page: Path = PAGE) -> None:
    """Replace what is between the page's markers."""
    tables = f"{BEGIN}\n\n{render(studies)}\n\n{END}"
    text = page.read_text("utf-8")
    page.write_text(re.sub(f"{BEGIN}.*{END}", lambda _: tables, text, flags=re.DOTALL), "utf-8")


def render(studies: Mapping[str, Any]) -> str:
    """The tables of all studies that were made."""
    parts = {"looks": _looks, "years": _years, "power": _power, "coverage": _coverage}
    return "\n\n".join(part(studies[name]) for name, part in parts.items() if studies.get(name))


def _looks(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [each["blocks"], each["gains"], *(_share(each[name]) for name in ("ignored", "measured", "postponed"))]
        for each in found
    ]
    head = ["blocks", "gains of blocks", "false passes, correlation ignored", "measured", "measured: postponed"]
    return f"**False passes a look**, where both models are equally good:\n\n{_table(head, rows)}"


def _years(found: Sequence[Mapping[str, Any]]) -> str:
    names = [name for name in found[0] if name != "correlation"]
    rows = [[each["correlation"], *(_share(each[name]) for name in names)] for each in found]
    head = [
        "lag-1 correlation",
        *(name.replace("look,", "2.5 % a look,").replace("year,", "5 % a year,") for name in names),
    ]
    return f"**Years with a false pass**, of weekly looks at 14 days:\n\n{_table(head, rows)}"


def _power(found: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [each["metric"], f"{each['gain']:.4f}", f"{each['holdout']}d", each["correlation"]]
        + [_share(each["found_by_day"][day]) if day in each["found_by_day"] else "" for day in ("14", "21", "28")]
        for each in found
    ]
    head = ["metric", "mean gain", "holdout", "correlation", "found by day 14", "by day 21", "by day 28"]
    return f"**A real gain that is found**, at 1,000 rows a day, by weekly looks at 2.5 % each:\n\n{_table(head, rows)}"


def _coverage(found: Sequence[Mapping[str, Any]]) -> str:
    shares = ("one", "no_gain", "gain")
    rows = [
        [f"`{each['metric']}`", *(_share(each[blocks][share]) for blocks in ("14", "28") for share in shares)]
        for each in found
    ]
    head = [
        "metric",
        *(f"{blocks} blocks: {what}" for blocks in (14, 28) for what in ("one model", "no gain", "a gain")),
    ]
    return f"**95 % intervals that hold the true value**, where blocks are independent:\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _share(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")
