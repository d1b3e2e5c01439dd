"""The demo's live view: a screen on a terminal, plain log lines elsewhere."""

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
    """Shows the state while the block runs; the driver calls ``refresh`` as often as it likes, from its own thread.

    On a terminal it draws on the alternate screen, at most four times a second: after the block, also after an
    exception, the terminal is as it was. Without one, or on one that cannot move its cursor or show Unicode, it prints
    a line for each thing that happened. ``now`` is a clock in seconds that never goes back.
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
            self._plain.tell(self._start_s)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._plain is None:
            self._live.stop()
        else:
            self._plain.tell(self._now())
            self._plain.tell_numbers()

    def refresh(self) -> None:
        """Show what is new. Costs a clock reading where the last frame is younger than a quarter of a second.

        A new phase is drawn at once: a long one may begin with the next line.
        """
        now_s = self._now()
        if self._plain is not None:
            self._plain.tell(now_s)
        elif now_s - self._drawn_s >= FRAME_S or self._state.phase != self._phase:
            self._drawn_s, self._phase = now_s, self._state.phase
            self._live.refresh()

    def _screen(self) -> RenderableType:
        width, height = self._console.size
        return screen(self._state, width, height, self._now() - self._start_s)


def is_drawable(console: Console) -> bool:
    """Whether the view can draw there: a terminal that moves its cursor and shows Unicode."""
    return console.is_terminal and not console.is_dumb_terminal and not console.options.ascii_only
