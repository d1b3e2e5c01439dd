from __future__ import annotations

import pytest

from headrace.errors import TerminalError
from headrace.models.model_state import advance, fold, fold_all, rollback_event
from tests.support.model_events import published, retired, rolled_back

FIRST = published("a", 1, expects=None)
SECOND = published("b", 2, expects="a")


def test_a_publication_that_expects_the_live_event_goes_live() -> None:
    state = fold([FIRST, SECOND])
    assert (state.version, state.live_id, state.void) == (2, "b", ())
    assert state.published_live == SECOND.data


def test_the_second_of_two_racing_publishers_is_void_and_says_why() -> None:
    loser = published("c", 3, expects="a")
    state = fold([FIRST, SECOND, loser])
    assert state.version == 2
    assert [(void.event.id, void.reason) for void in state.void] == [("c", "it was judged against a, live is b")]


def test_the_loser_judges_again_under_the_same_request() -> None:
    loser = published("c", 3, expects="a", request_id="r3")
    again = published("d", 4, expects="b", request_id="r3")
    assert fold([FIRST, SECOND, loser, again]).version == 4


def test_a_request_is_published_once() -> None:
    again = published("c", 3, expects="b", request_id="request-b")
    state = fold([FIRST, SECOND, again])
    assert state.version == 2
    assert state.void[0].reason == "request request-b was published before"
    assert state.request("request-b") == SECOND


def test_a_version_number_and_an_event_id_are_used_once() -> None:
    same_version = published("c", 2, expects="b")
    state = fold([FIRST, SECOND, same_version, FIRST])
    assert state.live == SECOND
    assert [void.reason for void in state.void] == ["version 2 exists", "event id a was seen"]


def test_a_rollback_is_unconditional_pins_and_voids_earlier_judgements() -> None:
    late = published("c", 3, expects="b")
    state = fold([FIRST, SECOND, rolled_back("x", 1), late])
    assert (state.version, state.live_id, state.pinned) == (1, "x", True)
    assert state.published_live == FIRST.data
    assert state.void[0].event == late


def test_a_pin_is_taken_off_by_the_same_event_or_by_a_later_publication() -> None:
    assert not fold([FIRST, SECOND, rolled_back("x", 1), rolled_back("y", 1, pin=False)]).pinned
    state = fold([FIRST, SECOND, rolled_back("x", 1), published("d", 3, expects="x")])
    assert (state.version, state.pinned) == (3, False)


def test_a_rollback_to_a_void_unknown_or_retired_version_is_void() -> None:
    log = [FIRST, SECOND, published("c", 3, expects="a"), rolled_back("x", 3), rolled_back("y", 9)]
    state = fold([*log, retired("r", 1), rolled_back("z", 1)])
    assert state.version == 2
    assert [void.reason for void in state.void[1:]] == [
        "version 3 was never published",
        "version 9 was never published",
        "version 1 is retired",
    ]


def test_the_live_version_cannot_be_retired() -> None:
    state = fold([FIRST, retired("r", 1)])
    assert state.version == 1
    assert not state.retired
    assert state.void[0].reason == "version 1 is live"


def test_models_do_not_touch_each_other() -> None:
    other = type(FIRST)(id="o", model="fraud", at_us=1, data=FIRST.data)
    states = fold_all([FIRST, other, SECOND])
    assert {name: state.version for name, state in states.items()} == {"delay": 2, "fraud": 1}


def test_a_rollback_is_made_only_where_it_would_be_in_force() -> None:
    state = fold([FIRST, SECOND, published("c", 3, expects="a"), retired("r", 1)])
    for version, said in ((1, "version 1 is retired"), (3, "version 3 was never published"), (9, "never published")):
        with pytest.raises(TerminalError, match=rf"cannot go back to version {version}: .*{said}; .*: \[1, 2\]"):
            rollback_event(state, "x", "delay", version, "worse", at_us=5, pin=True)
    with pytest.raises(TerminalError, match="'delay' is not pinned"):
        rollback_event(state, "x", "delay", None, "", at_us=5, pin=False)
    with pytest.raises(TerminalError, match="no live version"):
        rollback_event(fold([]), "x", "delay", None, "", at_us=5, pin=False)


def test_a_rollback_pins_and_unpinning_keeps_the_version() -> None:
    state = fold([FIRST, SECOND])
    state = advance(state, rollback_event(state, "x", "delay", 1, "worse", at_us=5, pin=True))
    assert (state.version, state.pinned) == (1, True)
    state = advance(state, rollback_event(state, "y", "delay", None, "fine again", at_us=6, pin=False))
    assert (state.version, state.pinned, state.live_id) == (1, False, "y")
