"""The version that was live at a time, and which application had loaded it."""

from __future__ import annotations

import msgspec
import pytest

from headrace.app.model_versions import describe_live_at
from headrace.models.live_at import LoadedAt, live_at, loaded_at
from headrace.models.model_events import Acknowledgement, ModelEvent
from tests.support.model_events import promoted, published, rolled_back


def at(t_us: int, event: ModelEvent) -> ModelEvent:
    return msgspec.structs.replace(event, at_us=t_us)


LOG = [
    at(10, published("a", 1, expects=None)),
    at(20, published("b", 2, expects="a")),
    at(25, published("v", 3, expects="a")),  # void
    at(30, rolled_back("x", 1)),
    at(40, published("w", 4, expects="x", lifts="x", approval="wanted")),
    at(50, promoted("p", 4)),
    at(60, rolled_back("h", 4)),
    at(70, rolled_back("u", 4, pin=False, lifts="h")),
]


@pytest.mark.parametrize(
    ("t_us", "version", "since_us"),
    [
        (9, None, None),
        (10, 1, 10),
        (19, 1, 10),
        (20, 2, 20),
        (29, 2, 20),
        (30, 1, 30),
        (49, 1, 30),
        (55, 4, 50),
        (65, 4, 50),
        (99, 4, 50),
    ],
)
def test_the_version_live_at_a_time_follows_from_the_events_until_then(
    t_us: int, version: int | None, since_us: int | None
) -> None:
    found = live_at(LOG, t_us)
    assert (found.state.version, found.since_us) == (version, since_us)


def test_an_event_counts_as_not_earlier_than_those_before_it_in_the_log() -> None:
    """The clock of whoever wrote version 2 was behind."""
    log = [at(30, published("a", 1, expects=None)), at(20, published("b", 2, expects="a"))]
    assert [live_at(log, t_us).state.version for t_us in (20, 29, 30)] == [None, None, 2]


def test_the_time_of_a_void_event_holds_nothing_up() -> None:
    log = [LOG[0], at(10**15, published("v", 9, expects="nothing")), LOG[1]]
    assert live_at(log, 20).state.version == 2


def answer(application: str, version: int, at_us: int, reason: str = "") -> Acknowledgement:
    return Acknowledgement(
        application=application, model="delay", version=version, event_id="e", ok=not reason, reason=reason, at_us=at_us
    )


def test_an_application_has_loaded_what_it_acknowledged_last() -> None:
    refused = answer("web", 2, 22, "bad digest")
    sent = [answer("web", 1, 11), answer("batch", 1, 12), refused, answer("batch", 2, 24), answer("late", 2, 99)]
    assert loaded_at(sent, 10) == []
    assert loaded_at(sent, 12) == [LoadedAt("batch", 1, 12), LoadedAt("web", 1, 11)]
    assert loaded_at(sent, 30) == [LoadedAt("batch", 2, 24), LoadedAt("web", 1, 11, refused)]
    again = [*sent[:3], answer("web", 1, 26), answer("web", 2, 27), answer("web", 2, 28)]
    assert loaded_at(again, 26)[1] == LoadedAt("web", 1, 11), "since it has this version, not since its last answer"
    assert loaded_at(again, 30)[1] == LoadedAt("web", 2, 27)
    assert loaded_at([refused], 30) == [LoadedAt("web", None, None, refused)]


def test_the_command_tells_both() -> None:
    found = describe_live_at(LOG, [answer("web", 2, 22, "bad digest")], 45)
    assert found == {
        "at": "1970-01-01T00:00:00.000045Z",
        "live": {
            "version": 1,
            "since": "1970-01-01T00:00:00Z",
            "event": "x",
            "told": "version 1 was pinned at 1970-01-01 00:00 UTC: worse",
            "pinned": True,
        },
        "waiting": 4,
        "waiting_since": "1970-01-01T00:00:00Z",
        "applications": [{"where": "web", "version": None, "since": None, "problem": "version 2: bad digest"}],
    }
    assert describe_live_at([], [], 45)["live"]["version"] is None
