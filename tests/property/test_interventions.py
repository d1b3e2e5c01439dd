"""Pins, rollbacks, promotions and retirements among the runs of several trainers: what a person decides holds."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import UNSET

from headrace.errors import TerminalError
from headrace.models import intervention
from headrace.models.intervention import Intervention, intervene
from headrace.models.model_event_log import FoldedEvents, MemoryModelEventLog, events
from headrace.models.model_events import ModelEvent, Promoted, Published, Retired, RolledBack, decode, encode
from headrace.models.model_state import ModelState, fold
from tests.support.example_budget import examples
from tests.support.interventions import MODEL, DatalessTrainer, Versions, asked, check_log
from tests.support.model_events import published

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.trainers.runs.messages import RetrainRequest

T = TypeVar("T")
ANY = st.integers(0, 11)
"""One of those that there are."""
SLOW_WORDS = st.sampled_from(["unpin", "unpin", "rollback", "promote", "retire"])
WORDS = st.sampled_from(["pin", "rollback", "promote", "unpin", "retire"])


class Operators(RuleBasedStateMachine):
    """Three trainers and any number of operators write to one log, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.log, self.versions, self.ids = MemoryModelEventLog(), Versions(), itertools.count()
        self.trainers = [DatalessTrainer(self.log, self.versions) for _ in range(3)]
        self.requests: list[RetrainRequest] = []
        self.prepared: list[ModelEvent] = []
        self.often, self.seldom = FoldedEvents(self.log), FoldedEvents(self.log)
        for version in (1, 2):
            self.trainers[0].take(asked(f"first-{version}", None))
            self.trainers[0].finish()

    @property
    def state(self) -> ModelState:
        return fold(self.events)

    @property
    def events(self) -> list[ModelEvent]:
        return events(self.log.read(), MODEL)

    @rule(lifts=st.booleans())
    def ask(self, *, lifts: bool) -> None:
        """The triggers ask for a run; if enough labels came since the pin, it lifts the pin of this moment."""
        self.requests.append(asked(f"r{next(self.ids)}", self.state.pin if lifts else None))

    @precondition(lambda self: len(self.in_flight) < len(self.trainers))
    @rule(lifts=st.booleans(), again=st.booleans())
    def take(self, *, lifts: bool, again: bool) -> None:
        """A trainer that is idle takes the oldest request. It may come a second time."""
        if not self.requests:
            self.ask(lifts=lifts)
        request = self.requests[0] if again else self.requests.pop(0)
        pin = self.state.pin
        held = next(each for each in self.trainers if each.run is None).take(request)
        assert bool(held) == (pin is not None and request.lifts != pin.id)
        assert pin is None or not held or "was pinned by ann@desk" in held

    @property
    def in_flight(self) -> list[DatalessTrainer]:
        return [each for each in self.trainers if each.run is not None]

    @precondition(lambda self: self.in_flight)
    @rule(number=ANY, manual=st.booleans(), word=st.none() | WORDS)
    def finish(self, number: int, word: str | None, *, manual: bool) -> None:
        """Publish; somebody may decide while the challenger is judged again."""
        late = [] if word is None else [word]
        before, mine = self.state, one_of(self.in_flight, number)
        judged = mine.run
        end = mine.finish(manual=manual, meanwhile=lambda: late and self.decide(late.pop(), number))
        assert end is not None
        assert judged is not None
        state = self.state
        assert (end.outcome == "published") == (state.request(judged[1].request_id) is not None)
        if end.outcome == "published":
            self.alias_is_right()
            if before.request(judged[1].request_id) is not None:
                return  # another trainer has answered the same request
        elsewhere = before.version != judged[0].state.version or before.pinned
        if before.live_id != judged[0].state.live_id and decided(before.live) and elsewhere:
            assert (state.live_id, end.outcome) == (before.live_id, "postponed")  # somebody decided during the run

    @precondition(lambda self: self.in_flight)
    @rule(number=ANY)
    def die(self, number: int) -> None:
        """A trainer is killed between its publication and the alias."""
        one_of(self.in_flight, number).die()

    @rule(version=st.integers(50, 99), lifts=st.booleans())
    def publish_as_an_old_trainer(self, version: int, *, lifts: bool) -> None:
        """It knows of no pins: its publication expects the live event, and lifts nothing, or an earlier pin."""
        id_ = f"old-{next(self.ids)}"
        more = {"lifts": "an earlier pin"} if lifts else {}
        self.log.append(published(id_, version, expects=self.state.live_id, **more))

    @rule(word=WORDS, number=ANY)
    def decide(self, word: str, number: int) -> None:
        """An operator decides, and it holds at once."""
        event = self.prepare(word, number)
        if event is None:
            return
        self.log.append(event)
        state = self.state
        assert state.history[-1] == event
        if not isinstance(event.data, Retired):
            assert (state.live, state.version) == (event, event.data.version)
            assert state.pinned == (isinstance(event.data, RolledBack) and event.data.pin)

    @rule(word=SLOW_WORDS, number=ANY)
    def decide_slowly(self, word: str, number: int) -> None:
        """An operator has looked, and writes later."""
        event = self.prepare(word, number)
        self.prepared += [] if event is None else [event]

    @precondition(lambda self: self.prepared)
    @rule()
    def write(self) -> None:
        event, before = self.prepared.pop(0), self.state
        self.log.append(event)
        if isinstance(event.data, RolledBack) and event.data.lifts not in {UNSET, before.live_id}:
            assert self.state.live == before.live  # another pin has come meanwhile: it stays

    def prepare(self, word: str, number: int) -> ModelEvent | None:
        state = self.state
        version = one_of([each.data.version for each in state.history if each.kind == "published"], number)
        with contextlib.suppress(TerminalError):
            data = _data(word, state, version)
            return intervene(state, data, id_=f"i{next(self.ids)}", model=MODEL, at_us=0)
        return None

    @rule(number=ANY)
    def mend(self, number: int) -> None:
        one_of(self.trainers, number).publisher.mend_alias()
        self.alias_is_right()
        assert self.seldom.state(MODEL) == self.state

    def alias_is_right(self) -> None:
        version = self.state.version
        if version is not None and version < 50:  # the others are of another registry
            assert self.versions.champion(MODEL) == version

    @invariant()
    def every_reader_agrees_and_no_publication_goes_over_a_person(self) -> None:
        state, log = self.state, self.events
        judged = {id_: at for trainer in self.trainers for id_, at in trainer.judged.items()}
        check_log(log, state, judged)
        assert state == self.often.state(MODEL) == fold(decode(encode(event)) for event in log)


def one_of(found: Sequence[T], number: int) -> T:
    return found[number % len(found)]


def decided(event: ModelEvent | None) -> bool:
    """Whether a person made this event."""
    return event is not None and not isinstance(event.data, Published)


def _data(word: str, state: ModelState, version: int) -> Intervention:
    match word:
        case "pin":
            return intervention.pin(state, MODEL, "freeze", "ann@desk")
        case "unpin":
            return intervention.unpin(state, MODEL, "", "ann@desk")
        case "rollback":
            return RolledBack(version=version, reason="worse", by="ann@desk")
        case "promote":
            return Promoted(version=version, reason="better", by="ann@desk")
    return Retired(version=version, reason="old", by="ann@desk")


TestOperators = Operators.TestCase
TestOperators.settings = settings(max_examples=examples(80), stateful_step_count=30, deadline=None)
