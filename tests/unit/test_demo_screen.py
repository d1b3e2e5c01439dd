from __future__ import annotations

import io
import math
from typing import Any

import pytest
from rich.console import Console

from headrace.app.demo.screen import final_screen

REPORT: dict[str, Any] = {
    "events": 1_102_331,
    "predictions": 131_204,
    "unlabelled": {"cancelled": 3_204, "diverted": 412},
    "versions": [
        {
            "version": 1,
            "cause": {"rule": "first", "reason": "20,008 of 20,000 matured labels"},
            "gate": {"verdict": "passed", "reason": "logloss 0.53 → 0.48", "rule": "first"},
            "published_at": "2013-02-12T00:00:00Z",
            "swapped_at": 1_360_630_800_000_000,
        },
        {"version": 2, "cause": "volume", "gate": "passed", "published_at": "2013-03-06T00:00:00Z", "swapped_at": None},
    ],
    "decisions": {"volume": {"evaluated": 139, "fired": 4, "refused": 1}},
    "auc": {
        "frozen": 0.7421,
        "live": 0.7648,
        "gain": 0.0227,
        "gain_low": 0.0171,
        "frozen_within_day": 0.6903,
        "live_within_day": 0.7011,
    },
    "logloss": {"frozen": 0.4912, "live": 0.4688},
    "audit": {"checked": 131_204, "mismatched": 0},
    "skew": {"checked": 131_204, "equal": 131_204},
    "dead_letters": 0,
    "lost": 0,
    "duplicated": 0,
    "seconds": 283.41,
}
KEYS = list(REPORT)


def shown(report: dict[str, Any], width: int = 100) -> list[str]:
    console = Console(width=width, file=io.StringIO(), _environ={})
    final_screen(report, console)
    assert isinstance(console.file, io.StringIO)
    return [" ".join(line.split()) for line in console.file.getvalue().splitlines()]


def test_a_full_report_with_its_promises_kept() -> None:
    lines = shown(REPORT, width=60)
    for line in (
        "✔ events lost 0",
        "✔ events duplicated 0",
        "✔ served vectors unlike the event log's 0 of 131,204",
        "vectors equal in serving and training 131,204 of 131,204",
        "AUC 0.7421 0.7648 +0.0227 +0.0171",
        "AUC within a day 0.6903 0.7011 +0.0108",
        "log-loss 0.4912 0.4688 +0.0224",
        "events 1,102,331",
        "unlabelled 3,616",
        "cancelled 3,204",
        "dead letters 0",
        "seconds 283.4",
        "volume 139 4 1",
    ):
        assert line in lines
    wide = shown(REPORT, width=160)
    assert (
        "v1 2013-02-12 00:00 2013-02-12 01:00 first: 20,008 of 20,000 matured labels passed: logloss 0.53 → 0.48"
        in wide
    )
    assert "v2 2013-03-06 00:00 - volume passed" in wide


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"lost": 3}, "✘ events lost 3"),
        ({"duplicated": 1}, "✘ events duplicated 1"),
        ({"lost": None}, "? events lost -"),
        ({"audit": {"checked": 10, "mismatched": 2}}, "✘ served vectors unlike the event log's 2 of 10"),
        ({"audit": {"checked": 0, "mismatched": 0}}, "? served vectors unlike the event log's 0 of 0"),
    ],
)
def test_a_promise_that_is_broken_or_unknown_gets_no_check(change: dict[str, Any], line: str) -> None:
    assert line in shown(REPORT | change, width=60)


@pytest.mark.parametrize("value", [None, math.nan, {}, []])
@pytest.mark.parametrize("key", KEYS)
def test_nothing_that_is_unknown_is_an_error(key: str, value: object) -> None:
    assert shown(REPORT | {key: value})


def test_a_run_too_short_for_an_auc_and_a_version() -> None:
    lines = shown({"auc": {"frozen": math.nan, "live": None}, "logloss": {"frozen": None, "live": math.nan}}, width=60)
    assert "AUC - - - -" in lines
    assert "log-loss - - -" in lines
    assert "none was published" in lines


def test_dead_letters_by_reason_are_summed() -> None:
    lines = shown(REPORT | {"dead_letters": {"late": 3, "unreadable": 2}}, width=60)
    assert lines[lines.index("dead letters 5") :][1:3] == ["late 3", "unreadable 2"]


def test_an_ascii_terminal_gets_ascii() -> None:
    console = Console(width=100, file=io.TextIOWrapper(io.BytesIO(), encoding="ascii"), _environ={})
    final_screen(REPORT | {"lost": 1}, console)
    console.file.seek(0)
    text = console.file.read()
    assert "NO  events lost" in text
    assert "ok  events duplicated" in text
