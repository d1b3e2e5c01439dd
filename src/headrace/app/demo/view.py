"""The live view of the demo: a screen on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.live import Live

from headrace.app.demo.panels import screen
from headrace.app.demo.plain import PlainLines

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import Console, RenderableType

    from headrace.app.demo.state import DemoState

FRAME_S = 0.25


class DemoView:
    """Shows the state while the block runs. The driver calls ``refresh`` from its own thread, as often as it likes.

    On a terminal it draws on the alternate screen, at most four times a second. After the block the terminal looks as
    before, also after an exception. Without a terminal, or on one that cannot move its cursor or show Unicode, it
    prints lines. ``now`` is a clock in seconds that never goes back.
    """

    def __init__(self, state: DemoState, console: Console, *, now: Callable[[], float] = time.monotonic) -> None:
        self._state = state
        self._console = console
        self._now = now
        self._phase = state.phase
        self._start_s = self._drawn_s = now()
        self._plain = None if is_drawable(console) else PlainLines(state, console)
        self._live = Live(console=console, screen=True, auto_refresh=False, get_renderable=self._screen)

    def __enter__(self) -> Self:
        self._start_s = self._drawn_s = self._now()
        if self._plain is None:
            self._live.start(refresh=True)
        else:
            self._plain.print_news(self._start_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plain is None:
            self._live.stop()
        else:
            self._plain.print_news(self._now())
            self._plain.print_numbers()

    def refresh(self) -> None:
        """Show what is new. Within a quarter of a second after the last frame it only reads the clock.

        A new phase is drawn at once, because a long step may follow.
        """
        now_s = self._now()
        if self._plain is not None:
            self._plain.print_news(now_s)
        elif now_s - self._drawn_s >= FRAME_S or self._state.phase != self._phase:
            self._drawn_s, self._phase = now_s, self._state.phase
            self._live.refresh()

    def _screen(self) -> RenderableType:
        width, height = self._console.size
        return screen(self._state, width, height, self._now() - self._start_s)


def is_drawable(console: Console) -> bool:
    """Return whether the console is a terminal that can move its cursor and show Unicode."""
    return console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
