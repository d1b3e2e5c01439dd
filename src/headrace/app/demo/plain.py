"""Shows the demo without a terminal: a line for each event, and every ten seconds a line with the numbers."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from rich.text import Text

from headrace.app.demo import wording
from headrace.app.demo.wording import STYLES

if TYPE_CHECKING:
    from rich.console import Console

    from headrace.app.demo.state import DecisionLine, DemoState

EVERY_S = 10.0
_TOLD = frozenset({"fired", "refused", "postponed", "failed"})


class PlainLines:
    """Prints the changes of the state. A new version has its own line, so the decision 'published' is not printed."""

    def __init__(self, state: DemoState, console: Console) -> None:
        self._state = state
        self._console = console
        self._phase = ""
        self._versions = 0
        self._decision: DecisionLine | None = None
        self._next_s: float | None = None
        self._numbers = ""

    def print_news(self, now_s: float) -> None:
        """Print what is new, and the numbers if ten seconds have passed. A call without news is cheap."""
        if self._state.phase != self._phase:
            self._phase = self._state.phase
            self._print("phase", self._phase)
        self._print_decisions()
        self._print_versions()
        self._next_s = now_s + EVERY_S if self._next_s is None else self._next_s
        if now_s >= self._next_s:
            self._next_s = now_s + EVERY_S
            self.print_numbers()

    def print_numbers(self) -> None:
        """Print the main numbers, unless they have not changed."""
        state = self._state
        live, frozen = (wording.last_finite(values) for values in (state.auc_live, state.auc_frozen))
        parts = [
            f"{state.events:,} events ({state.events_per_s:,.0f}/s)",
            f"{state.features:,} features",
            f"{state.predictions:,} predictions",
            f"lag {wording.format_milliseconds(state.lag_ms)}",
            f"step {wording.format_milliseconds(state.step_ms)}",
            f"AUC live {wording.format_number(live, '.3f')} frozen {wording.format_number(frozen, '.3f')}",
            *(f"{rule} {share:.0%}" for rule, (share, _) in state.progress.items()),
        ]
        numbers = ", ".join(parts)
        if numbers != self._numbers:
            self._numbers = numbers
            self._print(f"{wording.share_done(state):.0%}", numbers)

    def _print_decisions(self) -> None:
        decisions = self._state.decisions
        if not decisions or decisions[-1] is self._decision:
            return
        news = list(takewhile(lambda line: line is not self._decision, reversed(decisions)))
        self._decision = decisions[-1]
        for line in reversed(news):
            if line.what in _TOLD:
                why = wording.short_reason(line).removeprefix(f"{line.rule}: ")
                self._print(line.what, f"{line.rule}: {why}", wording.format_minute(line.t_us))

    def _print_versions(self) -> None:
        for line in self._state.versions[self._versions :]:
            text = f"version {line.version}, cause {line.cause}; gate: {line.gate}"
            self._print("published", text, wording.format_minute(line.published_us))
        self._versions = len(self._state.versions)

    def _print(self, what: str, text: str, when: str | None = None) -> None:
        text = wording.to_encodable(self._console, text)
        line = Text.assemble(
            f"{when or wording.format_clock(self._state)} ", (f"{what:<10}", STYLES.get(what, "")), text
        )
        self._console.print(line, soft_wrap=True, highlight=False)
