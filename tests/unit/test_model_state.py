from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.models.model_state import advance, earlier_live, fold, fold_all
from tests.support.model_events import promoted, published, retired, rolled_back

if TYPE_CHECKING:
    from headrace.models.model_events import ModelEvent

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


def test_a_pin_is_taken_off_by_the_same_event_or_by_a_publication_that_lifts_it() -> None:
    assert not fold([FIRST, SECOND, rolled_back("x", 1), rolled_back("y", 1, pin=False)]).pinned
    state = fold([FIRST, SECOND, rolled_back("x", 1), published("d", 3, expects="x", lifts="x")])
    assert (state.version, state.pinned) == (3, False)


@pytest.mark.parametrize("lifts", [{}, {"lifts": "an earlier pin"}])
def test_a_publication_that_does_not_lift_the_pin_is_void(lifts: dict[str, str]) -> None:
    state = fold([FIRST, SECOND, rolled_back("x", 1), published("d", 3, expects="x", **lifts)])
    assert (state.version, state.pin) == (1, rolled_back("x", 1))
    assert state.void[0].reason == "version 1 is pinned, and it does not lift the pin x"


def test_a_second_rollback_is_another_pin() -> None:
    """The publication that was to lift the first one is void."""
    log = [FIRST, SECOND, rolled_back("x", 2), rolled_back("y", 2), published("d", 3, expects="x", lifts="x")]
    assert (fold(log).version, fold(log).pin) == (2, rolled_back("y", 2))
    assert fold([*log, published("e", 3, expects="y", lifts="x")]).version == 2
    assert fold([*log, published("e", 3, expects="y", lifts="y")]).version == 3


def test_a_pin_that_came_meanwhile_is_not_removed_with_an_earlier_one() -> None:
    held = [FIRST, SECOND, rolled_back("x", 2), rolled_back("y", 1)]
    state = fold([*held, rolled_back("z", 2, pin=False, lifts="x")])
    assert (state.version, state.pin) == (1, rolled_back("y", 1))
    assert state.void[0].reason == "it was decided while x was live, live is y"
    assert not fold([*held, rolled_back("z", 1, pin=False, lifts="y")]).pinned


def test_a_promotion_makes_any_version_live_and_ends_a_pin() -> None:
    log = [FIRST, SECOND, rolled_back("x", 1), promoted("p", 2)]
    assert (fold(log).version, fold(log).live_id, fold(log).pinned) == (2, "p", False)
    assert fold([*log, published("c", 3, expects="x", lifts="x")]).version == 2
    assert fold([*log, published("c", 3, expects="p")]).version == 3
    refused = fold([*log, retired("r", 1), promoted("q", 1), promoted("s", 9)])
    assert [each.reason for each in refused.void] == ["version 1 is retired", "version 9 was never published"]


WAITS = published("w", 3, expects="b", approval="wanted", format=4)


def test_a_version_that_needs_an_approval_waits_until_it_is_promoted() -> None:
    state = fold([FIRST, SECOND, WAITS])
    assert (state.version, state.live_id, state.waiting) == (2, "b", WAITS)
    assert state.request("request-w") == WAITS
    assert not state.approved(3)
    after = advance(state, promoted("p", 3))
    assert (after.version, after.waiting, after.published_live) == (3, None, WAITS.data)
    assert after.approved(3)


def test_a_first_version_that_needs_an_approval_is_not_live() -> None:
    first = published("a", 1, expects=None, approval="wanted", format=4)
    state = fold([first])
    assert (state.version, state.live_id, state.waiting) == (None, None, first)
    assert fold([first, promoted("p", 1)]).version == 1


def test_a_waiting_version_is_rejected_by_its_retirement_and_replaced_by_a_later_one() -> None:
    rejected = fold([FIRST, SECOND, WAITS, retired("r", 3)])
    assert (rejected.waiting, rejected.version, set(rejected.retired)) == (None, 2, {3})
    later = published("v", 4, expects="b", approval="wanted", format=4)
    assert fold([FIRST, SECOND, WAITS, later]).waiting == later
    assert fold([FIRST, SECOND, WAITS, published("v", 4, expects="b")]).waiting is None
    assert fold([FIRST, SECOND, WAITS, later, promoted("p", 3)]).waiting == later


def test_nobody_goes_back_to_a_version_that_was_never_approved() -> None:
    state = fold([FIRST, SECOND, WAITS, rolled_back("x", 3)])
    assert (state.version, state.void[0].reason) == (2, "version 3 was never approved")
    assert fold([FIRST, SECOND, WAITS, promoted("p", 3), rolled_back("x", 2), rolled_back("y", 3)]).version == 3


def test_a_waiting_version_does_not_go_over_a_pin_either() -> None:
    log = [FIRST, SECOND, rolled_back("x", 1)]
    assert fold([*log, published("w", 3, expects="x", approval="wanted")]).waiting is None
    lifting = fold([*log, published("w", 3, expects="x", approval="wanted", lifts="x")])
    assert (lifting.version, lifting.pinned, lifting.waiting is None) == (1, True, False)


@pytest.mark.parametrize(
    ("later", "earlier"),
    [
        ([], [1]),
        ([published("c", 3, expects="b")], [2, 1]),
        ([published("c", 3, expects="b"), rolled_back("x", 2)], [1]),  # 3 was taken back
        ([rolled_back("x", 1), published("c", 3, expects="x", lifts="x")], [1]),
        ([rolled_back("x", 1), promoted("p", 2)], [1]),
        ([rolled_back("x", 2)], [1]),  # a pin
        ([WAITS], [1]),
        ([WAITS, promoted("p", 3), retired("r", 2)], [1]),
    ],
)
def test_the_versions_before_the_live_one_are_those_that_nobody_took_back(
    later: list[ModelEvent], earlier: list[int]
) -> None:
    assert [event.data.version for event in earlier_live(fold([FIRST, SECOND, *later]))] == earlier


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
