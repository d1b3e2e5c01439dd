from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headrace.models.model_events import ModelEvent, Published, decode, encode
from headrace.models.model_state import ModelState, advance, fold
from tests.support.model_events import published, retired, rolled_back

IDS = st.sampled_from("abcdefgh")
VERSIONS = st.integers(1, 5)


@st.composite
def events(draw: st.DrawFn) -> ModelEvent:
    id_, version = draw(IDS), draw(VERSIONS)
    match draw(st.sampled_from(["published", "published", "published", "rolled_back", "retired"])):
        case "published":
            expects = draw(st.none() | IDS)
            return published(id_, version, expects=expects, request_id=draw(st.sampled_from("pqrst")))
        case "rolled_back":
            return rolled_back(id_, version, pin=draw(st.booleans()))
    return retired(id_, version)


def check(state: ModelState) -> None:
    in_force = [event.id for event in state.history]
    assert len(set(in_force)) == len(in_force)
    publications = [event.data for event in state.history if isinstance(event.data, Published)]
    assert len({p.version for p in publications}) == len({p.request_id for p in publications}) == len(publications)
    assert all(v.reason for v in state.void)
    if state.live is None:
        assert not publications
        return
    assert state.live in state.history
    assert state.version not in state.retired
    assert state.published_live in publications


@given(st.lists(events(), max_size=25))
def test_every_prefix_of_model_events_is_consistent(log: list[ModelEvent]) -> None:
    state = ModelState()
    for count, event in enumerate(log, 1):
        before, state = state, advance(state, event)
        check(state)
        assert state == fold(log[:count]) == fold(decode(encode(e)) for e in log[:count])
        assert len(state.history) + len(state.void) == count
        if len(state.void) > len(before.void):
            assert state.live is before.live
        elif isinstance(event.data, Published):
            assert state.live is event
            assert event.data.expects == before.live_id


@given(st.lists(events(), max_size=15), st.permutations(["left", "right"]))
def test_exactly_one_of_two_publishers_against_the_same_version_wins(log: list[ModelEvent], order: list[str]) -> None:
    before = fold(log)
    lifts = {} if before.pin is None else {"lifts": before.pin.id}
    rivals = {
        name: published(name, 100 + i, expects=before.live_id, request_id=name, **lifts)
        for i, name in enumerate(["left", "right"])
    }
    after = fold([*log, *(rivals[name] for name in order)])
    assert after.live == rivals[order[0]]
    assert after.void[-1].event == rivals[order[1]]
