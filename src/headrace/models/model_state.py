"""The state of a model: a pure fold of its events. All readers of the same log see the same live version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from headrace.errors import TerminalError
from headrace.models.model_events import ModelEvent, Published, Retired, RolledBack

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class VoidEvent:
    """An event that changes nothing, and why."""

    event: ModelEvent
    reason: str


@dataclass(frozen=True)
class ModelState:
    """The state of one model after some of its events.

    ``live`` is the event that made the live version live (a publication or a rollback); a publisher's ``expects`` is
    its id. ``history`` has the events in force, in order, and ``void`` the others. While ``pinned``, triggers must not
    ask for a run.
    """

    live: ModelEvent | None = None
    history: tuple[ModelEvent, ...] = ()
    void: tuple[VoidEvent, ...] = ()
    pinned: bool = False

    @property
    def version(self) -> int | None:
        """The live version."""
        return None if self.live is None else self.live.data.version

    @property
    def live_id(self) -> str | None:
        """The id of the live event: what a publication judged now has to expect."""
        return None if self.live is None else self.live.id

    @property
    def published_live(self) -> Published | None:
        """The publication of the live version: its artifact, service and manifest."""
        found = None if self.version is None else self.published(self.version)
        return found.data if found is not None and isinstance(found.data, Published) else None

    @property
    def retired(self) -> frozenset[int]:
        """The versions that are never to be live again."""
        return frozenset(event.data.version for event in self.history if isinstance(event.data, Retired))

    def published(self, version: int) -> ModelEvent | None:
        """Return the publication in force of a version; also of a retired version."""
        mine = (e for e in self.history if isinstance(e.data, Published) and e.data.version == version)
        return next(mine, None)

    def request(self, request_id: str) -> ModelEvent | None:
        """Return the publication in force for a request: a trainer that takes the request again has nothing to do."""
        mine = (e for e in self.history if isinstance(e.data, Published) and e.data.request_id == request_id)
        return next(mine, None)


def fold(events: Iterable[ModelEvent]) -> ModelState:
    """Return the state of one model after these events, which are in the order of the log."""
    return reduce(advance, events, ModelState())


def fold_all(events: Iterable[ModelEvent]) -> dict[str, ModelState]:
    """Return the states of all models in the log."""
    states: dict[str, ModelState] = {}
    for event in events:
        states[event.model] = advance(states.get(event.model, ModelState()), event)
    return states


def advance(state: ModelState, event: ModelEvent) -> ModelState:
    """Return the state after one more event."""
    reason = _void_because(state, event)
    if reason:
        return replace(state, void=(*state.void, VoidEvent(event, reason)))
    history = (*state.history, event)
    match event.data:
        case Published():
            return replace(state, live=event, history=history, pinned=False)
        case RolledBack(pin=pin):
            return replace(state, live=event, history=history, pinned=pin)
        case Retired():
            return replace(state, history=history)


def _void_because(state: ModelState, event: ModelEvent) -> str:
    if any(known.id == event.id for known in state.history) or any(known.event.id == event.id for known in state.void):
        return f"event id {event.id} was seen"
    match event.data:
        case Published() as data:
            return _void_publication(state, data)
        case RolledBack(version=version):
            return _void_rollback(state, version)
        case Retired(version=version):
            return _void_retirement(state, version)


def _void_publication(state: ModelState, data: Published) -> str:
    if state.request(data.request_id) is not None:
        return f"request {data.request_id} was published before"
    if data.expects != state.live_id:
        return f"it was judged against {data.expects or 'no version'}, live is {state.live_id or 'none'}"
    if state.published(data.version) is not None:
        return f"version {data.version} exists"
    return ""


def _void_rollback(state: ModelState, version: int) -> str:
    if version in state.retired:
        return f"version {version} is retired"
    return "" if state.published(version) is not None else f"version {version} was never published"


def _void_retirement(state: ModelState, version: int) -> str:
    if version == state.version:
        return f"version {version} is live"
    return "" if state.published(version) is not None else f"version {version} was never published"


def rollback_event(
    state: ModelState, id_: str, model: str, version: int | None, reason: str, *, at_us: int, pin: bool
) -> ModelEvent:
    """Return the event that goes back to a version, or (None) keeps the live version and sets or removes its pin.

    Raises TerminalError for an event that would change nothing, with the reason.
    """
    target = state.version if version is None else version
    if target is None:
        raise TerminalError(f"model {model!r} has no live version: there is nothing to pin or unpin")
    if not pin and not state.pinned:
        raise TerminalError(f"model {model!r} is not pinned: version {state.version} came by publication")
    event = ModelEvent(id=id_, model=model, at_us=at_us, data=RolledBack(version=target, reason=reason, pin=pin))
    why = _void_because(state, event)
    if why:
        known = sorted(e.data.version for e in state.history if isinstance(e.data, Published))
        raise TerminalError(f"model {model!r} cannot go back to version {target}: {why}; published versions: {known}")
    return event
