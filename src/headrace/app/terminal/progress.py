"""How far a long command is: a bar on a terminal, else a line on standard error now and then."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_BETWEEN_LINES_S = 5.0


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yields what to call with how many more of ``total`` are done."""
    with ExitStack() as stack:
        yield (_bars(stack, {what: total}) or {what: _lines(what, total)})[what]


@contextmanager
def progress_of(totals: Mapping[str, int]) -> Iterator[Callable[[str, int], None]]:
    """Several at once, by name. Yields what to call with a name and how many of its total are done by now."""
    with ExitStack() as stack:
        bars = _bars(stack, totals) or {name: _lines(name, total) for name, total in totals.items()}
        done = dict.fromkeys(totals, 0)

        def reach(name: str, now: int) -> None:
            more = min(now, totals[name]) - done[name]
            done[name] += more
            bars[name](more)

        yield reach


def _bars(stack: ExitStack, totals: Mapping[str, int]) -> dict[str, Callable[[int], None]] | None:
    """None where there is no terminal."""
    from rich.console import Console  # noqa: PLC0415 - only for commands that take their time
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns, console=console, transient=True))
    tasks = {name: bar.add_task(name, total=total) for name, total in totals.items()}
    return {name: partial(bar.advance, task) for name, task in tasks.items()}


def _lines(what: str, total: int) -> Callable[[int], None]:
    done, said = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, said
        done += more
        if time.monotonic() - said >= _BETWEEN_LINES_S:
            said = time.monotonic()
            typer.echo(f"{what}: {done:,} of {total:,}", err=True)

    return advance
