"""Shows the progress of a long command: bars on a terminal, elsewhere a line on standard error every five seconds."""

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
    """Yield a function. Call it with the number of steps that were done since the last call."""
    with ExitStack() as stack:
        yield (_bars(stack, {what: total}) or {what: _lines(what, total)})[what]


@contextmanager
def progress_of_each(totals: Mapping[str, int]) -> Iterator[Callable[[str, int], None]]:
    """Show several tasks at once. Yields a function: call it with a name and the number of its steps done so far."""
    with ExitStack() as stack:
        advance = _bars(stack, totals) or {name: _lines(name, total) for name, total in totals.items()}
        done = dict.fromkeys(totals, 0)

        def advance_to(name: str, now: int) -> None:
            more = min(now, totals[name]) - done[name]
            done[name] += more
            advance[name](more)

        yield advance_to


def _bars(stack: ExitStack, totals: Mapping[str, int]) -> dict[str, Callable[[int], None]] | None:
    """Return a function for each task that moves its bar, or None if there is no terminal."""
    from rich.console import Console  # only for long commands
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bar = stack.enter_context(Progress(*columns, console=console, transient=True))
    tasks = {name: bar.add_task(name, total=total) for name, total in totals.items()}
    return {name: partial(bar.advance, task) for name, task in tasks.items()}


def _lines(what: str, total: int) -> Callable[[int], None]:
    done, printed = 0, time.monotonic()

    def advance(more: int) -> None:
        nonlocal done, printed
        done += more
        if time.monotonic() - printed >= _BETWEEN_LINES_S:
            printed = time.monotonic()
            typer.echo(f"{what}: {done:,} of {total:,}", err=True)

    return advance
