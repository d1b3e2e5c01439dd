"""Prints the last screen of the demo: `demo-report.json` as tables, with a check or a cross for each promise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Group
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from headrace.app.demo import wording
from headrace.app.demo.wording import STYLES, UNKNOWN, format_number

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console, RenderableType

    ReportData = Mapping[str, Any]
    CellFormatter = Callable[[object], str]

_WIDE = 100


def final_screen(report: ReportData, console: Console, name: str = "demo") -> None:
    """Print the report. A missing value is shown as ``-``. Only a promise that was surely kept gets a check."""

    def words(value: object) -> str:
        return wording.to_encodable(console, _words(value))

    marks = ("ok", "NO", "?") if console.options.ascii_only else ("✔", "✘", "?")
    left = [
        _titled("promises", _promises(report, marks)),
        _titled("live model against the frozen first one, same rows", _quality(report)),
    ]
    right = [_titled("counts", _counts(report, words)), _titled("decisions", _decisions(report, words))]
    line = "-" if console.options.ascii_only else "─"
    console.print(Rule(f"[bold]headrace {name}: report", style="cyan", align="left", characters=line))
    console.print(_side_by_side(left, right) if console.width >= _WIDE else Group(*left, *right))
    console.print(_titled("versions", _versions(report, words)))


def _side_by_side(left: list[RenderableType], right: list[RenderableType]) -> Table:
    grid = Table.grid(padding=(0, 4, 0, 0))
    grid.add_row(Group(*left), Group(*right))
    return grid


def _promises(report: ReportData, marks: tuple[str, str, str]) -> Table:
    audit, skew = _part(report, "audit"), _part(report, "skew")
    grid = _grid("", "", "")
    grid.add_row(_mark(report.get("lost"), marks), "events lost", format_number(report.get("lost")))
    grid.add_row(_mark(report.get("duplicated"), marks), "events duplicated", format_number(report.get("duplicated")))
    mismatched = audit.get("mismatched") if audit.get("checked") else None
    mark = _mark(mismatched, marks)
    grid.add_row(mark, "served vectors unlike the event log's", _of(audit, "mismatched"))
    grid.add_row("", "vectors equal in serving and training", _of(skew, "equal"))
    return grid


def _of(part: ReportData, key: str) -> str:
    return f"{format_number(part.get(key))} of {format_number(part.get('checked'))}"


def _mark(broken: object, marks: tuple[str, str, str]) -> Text:
    """Return a check for 0, a cross for any other number, and a question mark for None."""
    kept, failed, unknown = marks
    if format_number(broken) == UNKNOWN:
        return Text(unknown, "bold yellow")
    return Text(failed, "bold red") if broken else Text(kept, "bold green")


def _counts(report: ReportData, words: CellFormatter) -> Table:
    grid = _grid("", ">")
    for key in ("events", "predictions"):
        grid.add_row(key, format_number(report.get(key)))
    for name, counts in (("unlabelled", report.get("unlabelled")), ("dead letters", report.get("dead_letters"))):
        reasons = counts if isinstance(counts, Mapping) else {}
        grid.add_row(name, format_number(sum(reasons.values()) if isinstance(counts, Mapping) else counts))
        for reason, count in reasons.items():
            grid.add_row(Text(f"  {words(reason)}", "dim"), Text(format_number(count), "dim"))
    grid.add_row("seconds", format_number(report.get("seconds"), ",.1f"))
    return grid


def _quality(report: ReportData) -> Table:
    auc, logloss = _part(report, "auc"), _part(report, "logloss")
    grid = _grid("", ">frozen", ">live", ">gain", ">lower bound")
    low = Text(format_number(auc.get("gain_low"), "+.4f"), _sign_style(auc.get("gain_low")))
    grid.add_row("AUC", *_pair(auc, "frozen", "live"), _gain(auc.get("gain")), low)
    within = _pair(auc, "frozen_within_day", "live_within_day")
    grid.add_row("AUC within a day", *within, _gain(_minus(auc, "live_within_day", "frozen_within_day")), "")
    grid.add_row("log-loss", *_pair(logloss, "frozen", "live"), _gain(_minus(logloss, "frozen", "live")), "")
    return grid


def _pair(part: ReportData, *names: str) -> list[str]:
    return [format_number(part.get(name), ".4f") for name in names]


def _minus(part: ReportData, name: str, other: str) -> float | None:
    one, two = part.get(name), part.get(other)
    return None if UNKNOWN in {format_number(one), format_number(two)} else float(one) - float(two)  # type: ignore[arg-type]


def _gain(value: object) -> Text:
    return Text(format_number(value, "+.4f"), _sign_style(value))


def _sign_style(value: object) -> str:
    shown = format_number(value, "+.4f")
    return "" if shown == UNKNOWN else "bold red" if shown.startswith("-") else "bold green"


def _decisions(report: ReportData, words: CellFormatter) -> Table:
    grid = _grid("rule", ">evaluated", ">fired", ">refused")
    for rule, counts in _part(report, "decisions").items():
        found = counts if isinstance(counts, Mapping) else {}
        grid.add_row(Text(words(rule)), *(format_number(found.get(name)) for name in ("evaluated", "fired", "refused")))
    return grid


def _versions(report: ReportData, words: CellFormatter) -> RenderableType:
    found = report.get("versions")
    versions = found if isinstance(found, list) else []
    if not versions:
        return Text("none was published", "yellow")
    grid = _grid("version", "published", "swapped", "cause", "gate")
    grid.columns[3].overflow = grid.columns[4].overflow = "fold"
    for line in versions:
        gate = words(line.get("gate"))
        style = STYLES.get(gate.partition(":")[0], "")
        name = Text(f"v{words(line.get('version'))}", "bold cyan")
        times = (_time(line.get(key)) for key in ("published_at", "swapped_at"))
        grid.add_row(name, *times, Text(words(line.get("cause"))), Text(gate, style))
    return grid


def _time(value: object) -> str:
    """Return a time to the minute, from microseconds or RFC 3339 text."""
    if isinstance(value, int):
        return wording.format_minute(value)
    return value.replace("T", " ")[:16] if isinstance(value, str) else UNKNOWN


def _words(value: object) -> str:
    """Return text unchanged; for the record of a rule or gate ``rule: reason`` or ``verdict: reason``."""
    if isinstance(value, Mapping):
        named = (value.get("rule") if "verdict" not in value else value["verdict"], value.get("reason"))
        return ": ".join(str(part) for part in named if part) or UNKNOWN
    return UNKNOWN if value is None else str(value)


def _part(report: ReportData, key: str) -> ReportData:
    found = report.get(key)
    return found if isinstance(found, Mapping) else {}


def _grid(*heads: str) -> Table:
    """Return a table without lines. ``>`` before a header aligns its column to the right."""
    named = any(head.lstrip(">") for head in heads)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=named, header_style="dim")
    for head in heads:
        table.add_column(head.lstrip(">"), justify="right" if head.startswith(">") else "left")
    return table


def _titled(title: str, body: RenderableType) -> RenderableType:
    return Padding(Group(Text(title, "bold cyan"), body), (1, 0, 0, 0))
