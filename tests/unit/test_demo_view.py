from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from headrace.app.demo.panels import decision_groups, screen
from headrace.app.demo.state import DecisionLine, DemoState, VersionLine
from headrace.app.demo.view import DemoView, is_drawable

DAY = 86_400_000_000
FROM = 15_706 * DAY  # 2013-01-01
GATE = "auc 0.7412 → 0.7534, gain +0.0122 [+0.0080, +0.0160]: the lower bound is above +0.0000"
VOLUME = "18,204 of 20,000 matured labels since the run of 2013-03-27"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def running(days: int = 150, versions: int = 5) -> DemoState:
    state = DemoState("lockstep", FROM, FROM + 181 * DAY, phase="replaying", event_us=FROM + days * DAY)
    state.events, state.events_per_s, state.features, state.predictions = 1_116_000, 14_647.0, 5_022_000, 116_640
    state.lag_ms, state.step_ms = 12.3, 34.0
    state.progress = {"volume": (0.91, VOLUME), "drift": (0.42, "score PSI 0.058 against 0.140 (asked 0.100)")}
    for number in range(1, versions + 1):
        t_us = FROM + (20 + 22 * number) * DAY
        state.decisions += [not_now(t_us - back * DAY) for back in (3, 2, 1)]
        state.decisions.append(DecisionLine(t_us, "fired", "volume", "volume: 20,000 of 20,000 matured labels"))
        state.decisions.append(DecisionLine(t_us, "published", "run", f"published: {GATE}"))
        state.versions.append(VersionLine(number, "volume", t_us, GATE))
    state.decisions.append(DecisionLine(FROM + 149 * DAY, "refused", "run", "refused: gain [-0.0021, +0.0029]"))
    state.auc_days = [15_706 + day for day in range(42, days)]
    state.auc_frozen = [math.nan if day < 50 else 0.74 + 0.01 * math.sin(day / 13) for day in range(42, days)]
    state.auc_live = [value + 0.0002 * day for day, value in enumerate(state.auc_frozen)]
    return state


def not_now(t_us: int, rule: str = "volume", reason: str = VOLUME) -> DecisionLine:
    return DecisionLine(t_us, "not now", rule, reason)


def drawn(state: DemoState, width: int, height: int) -> str:
    console = Console(width=width, height=height, force_terminal=True, color_system=None, file=io.StringIO())
    with console.capture() as capture:
        console.print(screen(state, width, height, 133.0))
    return capture.get()


def terminal(**settings: object) -> Console:
    wanted = {"width": 100, "height": 30, "force_terminal": True, "color_system": "standard", "file": io.StringIO()}
    return Console(**{**wanted, "_environ": {"TERM": "xterm"}, **settings})  # type: ignore[arg-type]


def pipe(**settings: object) -> Console:
    return Console(**{"width": 80, "file": io.StringIO(), "_environ": {}, **settings})  # type: ignore[arg-type]


def output(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_screen_of_100_by_30_shows_everything() -> None:
    shown = drawn(running(), 100, 30)
    for part in (
        "headrace demo · lockstep · replaying · 2:13",
        "2013-05-31 00:00 UTC",
        "83%",
        "events 1,116,000 (14,647/s)   features 5,022,000   predictions 116,640   lag 12 ms   step 34 ms",
        "91%",
        "18,204 of 20,000 matured labels since",
        "━ live 0.7",
        "v4",
        "2013-05-30 refused        run           gain [-0.0021",
        "v5      2013-05-11 volume         auc 0.7412 → 0.7534, gain +0.0122",
    ):
        assert part in shown
    assert any(0x2800 < ord(character) <= 0x28FF for character in shown)


@pytest.mark.parametrize(
    "state", [running(), running(30, 0), running(150, 12), DemoState("lockstep", FROM, FROM + DAY)]
)
@pytest.mark.parametrize(("width", "height"), [(100, 30), (84, 30), (83, 24), (60, 24), (140, 50), (220, 90)])
def test_a_screen_never_grows_beyond_its_terminal(state: DemoState, width: int, height: int) -> None:
    lines = drawn(state, width, height).splitlines()
    assert len(lines) <= height
    assert max(len(line) for line in lines) <= width


def test_a_tiny_terminal_is_no_error() -> None:
    assert drawn(running(), 20, 5)


def test_the_newest_of_many_versions_are_shown() -> None:
    shown = drawn(running(150, 12), 100, 30)
    assert "\nv12 " in shown
    assert "\nv1 " not in shown


def test_days_of_not_now_are_one_line_with_the_newest_reason() -> None:
    days = [not_now(FROM + day * DAY, reason=str(day)) for day in range(5)]
    found = decision_groups([*days, not_now(FROM, "cooldown"), DecisionLine(FROM, "fired", "volume", ""), days[0]])
    assert [(entry.decision.rule, entry.decision.what, entry.times) for entry in found] == [
        ("volume", "not now", 5),
        ("cooldown", "not now", 1),
        ("volume", "fired", 1),
        ("volume", "not now", 1),
    ]
    assert found[0].decision.reason == "4"


def test_markup_in_a_reason_is_text() -> None:
    state = running()
    state.phase = "[red]phase[/red]"
    state.decisions.append(not_now(FROM, reason="[bold]odd[/bold"))
    shown = drawn(state, 100, 30)
    assert "[bold]odd[/bold" in shown
    assert "[red]phase[/red]" in shown


def test_a_terminal_is_drawn_four_times_a_second_at_most() -> None:
    state, console, clock = running(), terminal(), Clock()
    with DemoView(state, console, now=clock) as view:
        before = len(output(console))
        clock.seconds = 0.24
        view.refresh()
        assert len(output(console)) == before
        clock.seconds, state.events = 0.25, 1_234_567
        view.refresh()
        assert "1,234,567" in output(console)[before:]
        drawn_once = len(output(console))
        view.refresh()
        assert len(output(console)) == drawn_once


def test_a_new_phase_is_drawn_at_once() -> None:
    state, console = running(), terminal()
    with DemoView(state, console, now=Clock()) as view:
        state.phase = "auditing every served vector"
        view.refresh()
        assert "auditing every served vector" in output(console)


def test_after_the_view_the_terminal_is_as_it_was_also_after_an_exception() -> None:
    console = terminal()
    message = "in the middle"
    with pytest.raises(RuntimeError, match=message), DemoView(running(), console, now=Clock()):
        raise RuntimeError(message)
    shown = output(console)
    assert shown.count("\x1b[?1049h") == shown.count("\x1b[?1049l") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert not console.is_alt_screen


def test_a_first_frame_that_cannot_be_drawn_leaves_the_terminal_as_it_was() -> None:
    console, state = terminal(), running()
    state.auc_live = state.auc_live[:-1]
    with pytest.raises(ValueError, match="shorter"), DemoView(state, console, now=Clock()):
        pass
    assert output(console).count("\x1b[?1049h") == output(console).count("\x1b[?1049l")


def test_no_color_draws_without_colours() -> None:
    console = terminal(_environ={"NO_COLOR": "1", "TERM": "xterm"})
    with DemoView(running(), console, now=Clock()):
        pass
    assert "rolling AUC" in output(console)
    assert "\x1b[36m" not in output(console)
    assert "\x1b[1;32m" not in output(console)


def test_a_pipe_a_dumb_terminal_and_an_ascii_one_get_lines() -> None:
    assert is_drawable(terminal())
    assert not is_drawable(pipe())
    assert not is_drawable(terminal(_environ={"TERM": "dumb"}))
    assert not is_drawable(terminal(file=io.TextIOWrapper(io.BytesIO(), encoding="ascii")))


def test_lines_tell_each_thing_once_unfolded_and_without_escapes() -> None:
    state, console, clock = running(40, 0), pipe(), Clock()
    state.decisions.clear()
    with DemoView(state, console, now=clock) as view:
        for decision in running(150, 1).decisions:
            state.decisions.append(decision)
            view.refresh()
        state.versions.append(VersionLine(1, "first", FROM + 42 * DAY, GATE))
        view.refresh()
        view.refresh()
    lines = output(console).splitlines()
    assert lines[:4] == [
        "2013-02-10 00:00 phase     replaying",
        "2013-02-12 00:00 fired     volume: 20,000 of 20,000 matured labels",
        "2013-05-30 00:00 refused   run: gain [-0.0021, +0.0029]",
        f"2013-02-12 00:00 published version 1, cause first; gate: {GATE}",
    ]
    assert lines[4].startswith("2013-02-10 00:00 22%       1,116,000 events (14,647/s), 5,022,000 features")
    assert len(lines) == 5
    assert "\x1b" not in output(console)


def test_lines_with_the_numbers_come_every_ten_seconds_while_they_change() -> None:
    state, console, clock = running(), pipe(), Clock()
    with DemoView(state, console, now=clock) as view:
        for second in range(31):
            clock.seconds, state.events = float(second), second if second < 25 else 24
            view.refresh()
    shown = [line for line in output(console).splitlines() if " events (" in line]
    assert [line.split()[3] for line in shown] == ["10", "20", "24"]


def test_decisions_are_told_also_when_the_memory_of_them_turned_over() -> None:
    state, console = running(40, 0), pipe()
    with DemoView(state, console, now=Clock()) as view:
        state.decisions.extend(not_now(FROM) for _ in range(250))
        state.decisions.append(DecisionLine(FROM, "failed", "run", "failed: out of memory"))
        view.refresh()
    assert output(console).count("failed    run: out of memory") == 1


def test_an_encoding_without_arrows_is_no_error() -> None:
    console = pipe(file=io.TextIOWrapper(io.BytesIO(), encoding="latin-1"))
    with DemoView(running(), console, now=Clock()):
        pass
    console.file.seek(0)
    assert "auc 0.7412 ? 0.7534" in console.file.read()
