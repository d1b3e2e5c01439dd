"""Draws the live view: pure functions from the state of the demo to a screen of a given size."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from headrace.app.demo import wording
from headrace.app.demo.braille import Curve, Frame, plot
from headrace.app.demo.wording import STYLES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import RenderableType

    from headrace.app.demo.state import DecisionLine, DemoState

LIVE, FROZEN = "bold green", "yellow"
_WIDE = 84
_MIDDLE_SHARE, _MIDDLE_MOST = 0.3, 14
_LABEL = 6
_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class DecisionGroup:
    """One line of the decisions. ``times`` counts successive 'not now' of one rule; the line shows the newest."""

    decision: DecisionLine
    times: int = 1


def screen(state: DemoState, width: int, height: int, elapsed_s: float) -> Group:
    """Return the screen: at most ``height`` rows of ``width`` columns. Every section starts with its title."""
    header = _header(state, width, elapsed_s)
    rest = height - len(header)
    middle, middle_rows = _middle(state, width, min(_MIDDLE_MOST, max(4, int(height * _MIDDLE_SHARE))))
    versions_rows = max(0, min(2 + max(len(state.versions), 1), (rest - middle_rows) // 2))
    return Group(
        *header,
        middle,
        _section("decisions", _decisions(state, rest - middle_rows - versions_rows - 1)),
        _section("versions", _versions(state, versions_rows - 2)),
    )


def _header(state: DemoState, width: int, elapsed_s: float) -> list[RenderableType]:
    words = (
        (f"headrace {state.name}", "bold"),
        state.mode,
        (state.phase, "bold cyan"),
        wording.format_elapsed(elapsed_s),
    )
    title = Text(" · ").join(Text.assemble(word) for word in words)
    done = wording.share_done(state)
    bar = ProgressBar(total=1.0, completed=done, width=max(10, width - 39), complete_style="cyan")
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(f"{wording.format_clock(state)} UTC", "bold"), bar, f"{done:4.0%}", wording.format_day(state.to_us)
    )
    return [Rule(title, style="cyan", align="left"), line, *_numbers(state, width)]


def _numbers(state: DemoState, width: int) -> list[Text]:
    numbers = {
        "events": f"{state.events:,} ({state.events_per_s:,.0f}/s)",
        "features": f"{state.features:,}",
        "predictions": f"{state.predictions:,}",
        "lag": wording.format_milliseconds(state.lag_ms),
        "step": wording.format_milliseconds(state.step_ms),
    }
    parts = [Text.assemble((name, "dim"), " ", (number, "bold")) for name, number in numbers.items()]
    rows = [parts] if width >= _WIDE else [parts[:3], parts[3:]]
    return [_one_line(Text("   ").join(row)) for row in rows]


def _middle(state: DemoState, width: int, rows: int) -> tuple[RenderableType, int]:
    """Return triggers and AUC side by side if there is room, else below each other; and the number of their rows."""
    if width < _WIDE:
        triggers_rows = 1 + 2 * max(len(state.progress), 1)
        chart_rows = max(3, rows - 2)
        stacked = _triggers(state, width, triggers_rows), _auc(state, width, chart_rows)
        return Group(*stacked), triggers_rows + chart_rows
    left = (width - 3) // 2
    right = width - 3 - left
    grid = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
    grid.add_column(width=left)
    grid.add_column(width=right)
    grid.add_row(_triggers(state, left, rows), _auc(state, right, rows))
    return grid, rows


def _triggers(state: DemoState, width: int, rows: int) -> Group:
    each = (rows - 1) // max(len(state.progress), 1)
    lines: list[RenderableType] = []
    for rule, (share, reason) in state.progress.items():
        lines.append(_trigger_bar(rule, share, width))
        lines += _wrapped(reason, width, max(each - 1, 0))
    lines = lines or [Text("no evaluation yet", "dim")]
    lines += [Text("")] * (rows - 1 - len(lines))
    return _section("triggers: distance to firing", Group(*lines[: rows - 1]))


def _trigger_bar(rule: str, share: float, width: int) -> Table:
    style = "bold red" if share >= 1 else "yellow" if share >= 0.8 else "green"  # noqa: PLR2004 - near
    line = Table.grid(padding=(0, 1))
    line.add_column(width=14, no_wrap=True, overflow="ellipsis")
    bar = ProgressBar(total=1.0, completed=share, width=max(6, width - 21), complete_style=style, finished_style=style)
    line.add_row(Text(rule, "bold"), bar, Text(f"{share:4.0%}", style))
    return line


def _wrapped(reason: str, width: int, lines: int) -> list[Text]:
    wrapped = textwrap.wrap(reason, width - 2, max_lines=lines, placeholder=" …") if lines else []
    return [Text(f"  {line}", "dim") for line in wrapped]


def _auc(state: DemoState, width: int, rows: int) -> Group:
    live, frozen = wording.last_finite(state.auc_live), wording.last_finite(state.auc_frozen)
    numbers = Text.assemble(
        ("━ live ", LIVE), (wording.format_number(live, ".3f"), LIVE),
        ("   ┅ frozen ", FROZEN), (wording.format_number(frozen, ".3f"), FROZEN),
        ("   gain ", "dim"), wording.format_number(live - frozen, "+.3f"),
    )  # fmt: skip
    return _section("rolling AUC", Group(_one_line(numbers), *_chart(state, width, rows - 2)))


def _chart(state: DemoState, width: int, rows: int) -> list[Text]:
    """Return the curves with their scale, and the versions below. Without a number the rows are empty."""
    values = [v for v in [*state.auc_live, *state.auc_frozen] if v == v]  # noqa: PLR0124 - NaN is not itself
    if not values or rows < 2:  # noqa: PLR2004 - a row of curves, a row of versions
        return [Text("no AUC yet" if not values and not i else "", "dim") for i in range(rows)]
    pad = max(0.0, 0.02 - (max(values) - min(values))) / 2
    last_day = max(state.to_us // _DAY_US, state.auc_days[-1])
    frame = Frame(state.auc_days[0], last_day, min(values) - pad, max(values) + pad, width - _LABEL, rows - 1)
    curves = Curve(state.auc_days, state.auc_live, LIVE), Curve(state.auc_days, state.auc_frozen, FROZEN, every=2)
    lines = plot(curves, frame)
    scale = {0: f"{frame.high:.3f}", len(lines) - 1: f"{frame.low:.3f}"} if len(lines) > 1 else {}
    labelled = [Text(scale.get(i, "").ljust(_LABEL), "dim") + line for i, line in enumerate(lines)]
    return [*labelled, _version_marks(state, frame)]


def _version_marks(state: DemoState, frame: Frame) -> Text:
    marks = [" "] * frame.columns
    for version in reversed(state.versions):
        name = f"v{version.version}"
        column = min(frame.x(version.published_us / _DAY_US) // 2, frame.columns - len(name))
        if not "".join(marks[max(column - 1, 0) : column + len(name) + 1]).strip():
            marks[column : column + len(name)] = name
    return Text(" " * _LABEL + "".join(marks).rstrip(), "cyan")


def decision_groups(decisions: Iterable[DecisionLine]) -> list[DecisionGroup]:
    """Return the decisions in order. Successive 'not now' of one rule are one group with the newest reason."""
    found: list[DecisionGroup] = []
    for decision in decisions:
        last = found[-1] if found else None
        if last and decision.what == "not now" == last.decision.what and decision.rule == last.decision.rule:
            found[-1] = replace(last, decision=decision, times=last.times + 1)
        else:
            found.append(DecisionGroup(decision))
    return found


def _decisions(state: DemoState, rows: int) -> RenderableType:
    grid = _grid(10, 9, 4, 13, None)
    shown = decision_groups(state.decisions)[-rows:] if rows > 0 else []
    for entry in shown:
        line, style = entry.decision, STYLES.get(entry.decision.what, "")
        times = f"{entry.times}x" if entry.times > 1 else ""
        reason = Text(wording.short_reason(line), "dim" if style == "dim" else "")
        grid.add_row(wording.format_day(line.t_us), Text(line.what, style), Text(times, "dim"), Text(line.rule), reason)
    return Group(grid if shown else Text("none yet", "dim"), *[Text("")] * (rows - max(len(shown), 1)))


def _versions(state: DemoState, rows: int) -> RenderableType:
    grid = _grid(7, 10, 14, None)
    grid.add_row(*(Text(name, "dim") for name in ("version", "published", "cause", "gate")))
    for line in state.versions[-rows:] if rows > 0 else []:
        cause, gate = Text(line.cause), Text(line.gate)
        grid.add_row(Text(f"v{line.version}", "bold cyan"), wording.format_day(line.published_us), cause, gate)
    return grid if state.versions else Text("none yet", "dim")


def _grid(*widths: int | None) -> Table:
    """Return a grid with columns of fixed widths. The column None takes the rest. Long text ends in an ellipsis."""
    grid = Table.grid(padding=(0, 1), expand=True)
    for width in widths:
        grid.add_column(width=width, ratio=None if width else 1, no_wrap=True, overflow="ellipsis")
    return grid


def _section(title: str, body: RenderableType) -> Group:
    return Group(Rule(Text(title, "cyan"), style="dim cyan", align="left"), body)


def _one_line(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
