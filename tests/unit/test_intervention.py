from __future__ import annotations

import pytest

from headrace.errors import TerminalError
from headrace.models.intervention import Intervention, intervene, pin, told, unpin
from headrace.models.model_events import Promoted, Retired, RolledBack
from headrace.models.model_state import ModelState, advance, fold
from tests.support.model_events import promoted, published, retired, rolled_back

FIRST = published("a", 1, expects=None)
SECOND = published("b", 2, expects="a")


def refused(state: ModelState, data: Intervention) -> str:
    with pytest.raises(TerminalError) as raised:
        intervene(state, data, id_="x", model="delay", at_us=5)
    return str(raised.value)


def test_an_intervention_is_made_only_where_it_would_be_in_force() -> None:
    state = fold([FIRST, SECOND, published("c", 3, expects="a"), retired("r", 1)])
    for version, said in ((1, "version 1 is retired"), (3, "version 3 was never published"), (9, "never published")):
        for data, wanted in (
            (RolledBack(version=version, reason="worse"), "go back to"),
            (Promoted(version=version, reason="better"), "promote"),
        ):
            message = refused(state, data)
            assert message.startswith(f"model 'delay' cannot {wanted} version {version}: ")
            assert said in message
            assert message.endswith("published versions: [1, 2]")
    assert "cannot retire version 2: version 2 is live" in refused(state, Retired(version=2, reason="old"))
    assert "version 1 is retired already" in refused(state, Retired(version=1, reason="old"))
    assert "version 2 is live already" in refused(state, Promoted(version=2, reason="again"))


def test_a_pin_holds_the_live_version_and_unpinning_keeps_it() -> None:
    state = fold([FIRST, SECOND])
    held = intervene(state, pin(state, "delay", "freeze", "ann@desk"), id_="x", model="delay", at_us=5)
    state = advance(state, held)
    assert (state.version, state.pin) == (2, held)
    free = intervene(state, unpin(state, "delay", "fine again", ""), id_="y", model="delay", at_us=6)
    state = advance(state, free)
    assert (state.version, state.pinned, state.live_id) == (2, False, "y")


def test_without_a_live_version_or_a_pin_there_is_nothing_to_unpin() -> None:
    with pytest.raises(TerminalError, match="'delay' is not pinned: version 2 is live"):
        unpin(fold([FIRST, SECOND]), "delay", "", "")
    for word, make in (("pin", pin), ("unpin", unpin)):
        with pytest.raises(TerminalError, match=f"no live version: there is nothing to {word}"):
            make(fold([]), "delay", "", "")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (FIRST, "version 1 was published at 2013-02-04 17:46 UTC"),
        (rolled_back("x", 1, by="ann@desk"), "version 1 was pinned by ann@desk at 1970-01-01 00:00 UTC: worse"),
        (rolled_back("x", 1, pin=False), "version 1 was unpinned at 1970-01-01 00:00 UTC: worse"),
        (promoted("x", 2, by="bob@desk"), "version 2 was promoted by bob@desk at 1970-01-01 00:00 UTC: better"),
        (retired("x", 2), "version 2 was retired at 1970-01-01 00:00 UTC: old"),
    ],
)
def test_an_event_is_told_with_who_when_and_why(event: object, words: str) -> None:
    assert told(event) == words  # type: ignore[arg-type]


def test_a_pin_that_was_decided_before_another_version_came_is_void() -> None:
    state = fold([FIRST])
    held = intervene(state, pin(state, "delay", "freeze", "ann@desk"), id_="x", model="delay", at_us=5)
    after = fold([FIRST, SECOND, held])
    assert (after.version, after.pinned) == (2, False)
    assert after.void[0].reason == f"it was decided while {FIRST.id} was live, live is {SECOND.id}"
