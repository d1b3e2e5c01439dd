"""The state of a model: a pure fold of its events. All readers of the same log see the same live version."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.models.model_events import ModelEvent, Promoted, Published, Retired, RolledBack

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

    ``live`` is the event that made the live version live (a publication, a promotion or a rollback); a publisher's
    ``expects`` is its id. ``waiting`` is the publication of the version that waits for its approval. ``history`` has
    the events in force, in order, and ``void`` the others.
    """

    live: ModelEvent | None = None
    waiting: ModelEvent | None = None
    history: tuple[ModelEvent, ...] = ()
    void: tuple[VoidEvent, ...] = ()

    @property
    def version(self) -> int | None:
        """The live version."""
        return None if self.live is None else self.live.data.version

    @property
    def live_id(self) -> str | None:
        """The id of the live event: what a publication judged now has to expect."""
        return None if self.live is None else self.live.id

    @property
    def pin(self) -> ModelEvent | None:
        """The event that pins the live version, or None. No publication is in force over it unless it lifts it."""
        live = self.live
        return live if live is not None and isinstance(live.data, RolledBack) and live.data.pin else None

    @property
    def pinned(self) -> bool:
        """True while a person holds the live version."""
        return self.pin is not None

    @property
    def published_live(self) -> Published | None:
        """The publication of the live version: its artifact, service and manifest."""
        return None if self.version is None else self.publication(self.version)

    @property
    def retired(self) -> frozenset[int]:
        """The versions that are never to be live again."""
        return frozenset(event.data.version for event in self.history if isinstance(event.data, Retired))

    def published(self, version: int) -> ModelEvent | None:
        """Return the publication in force of a version; also of a retired version, or of one that waits."""
        mine = (e for e in self.history if isinstance(e.data, Published) and e.data.version == version)
        return next(mine, None)

    def publication(self, version: int) -> Published | None:
        """Return what the publication in force of a version says."""
        found = self.published(version)
        return found.data if found is not None and isinstance(found.data, Published) else None

    def request(self, request_id: str) -> ModelEvent | None:
        """Return the publication in force for a request: a trainer that takes the request again has nothing to do."""
        mine = (e for e in self.history if isinstance(e.data, Published) and e.data.request_id == request_id)
        return next(mine, None)

    def approved(self, version: int) -> bool:
        """Return whether a published version needs no approval, or was promoted."""
        mine = [event for event in self.history if event.data.version == version]
        return any(isinstance(event.data, Promoted) or _goes_live(event) for event in mine)


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
    reason = void_because(state, event)
    if reason:
        return replace(state, void=(*state.void, VoidEvent(event, reason)))
    after = replace(state, history=(*state.history, event))
    match event.data:
        case Published():
            return replace(after, live=event, waiting=None) if _goes_live(event) else replace(after, waiting=event)
        case Retired(version=version):
            return _no_more_waiting(after, version)
        case Promoted(version=version) | RolledBack(version=version):
            return replace(_no_more_waiting(after, version), live=event)


def _goes_live(event: ModelEvent) -> bool:
    return isinstance(event.data, Published) and event.data.approval is UNSET


def _no_more_waiting(state: ModelState, version: int) -> ModelState:
    """Return the state in which this version does not wait, because a person has decided about it."""
    waits = state.waiting is not None and state.waiting.data.version == version
    return replace(state, waiting=None) if waits else state


def void_because(state: ModelState, event: ModelEvent) -> str:
    """Return why an event would change nothing after this state; an empty text if it is in force."""
    if any(known.id == event.id for known in state.history) or any(known.event.id == event.id for known in state.void):
        return f"event id {event.id} was seen"
    match event.data:
        case Published() as data:
            return _void_publication(state, data)
        case Retired(version=version):
            return f"version {version} is live" if version == state.version else _unpublished(state, version)
        case Promoted(version=version):
            return _never_live_again(state, version)
        case RolledBack() as data:
            return _void_rollback(state, data)


def _void_publication(state: ModelState, data: Published) -> str:
    if state.request(data.request_id) is not None:
        return f"request {data.request_id} was published before"
    if data.expects != state.live_id:
        return f"it was judged against {data.expects or 'no version'}, live is {state.live_id or 'none'}"
    if state.pin is not None and data.lifts != state.pin.id:
        return f"version {state.version} is pinned, and it does not lift the pin {state.pin.id}"
    if state.published(data.version) is not None:
        return f"version {data.version} exists"
    return ""


def _void_rollback(state: ModelState, data: RolledBack) -> str:
    if data.lifts not in {UNSET, state.live_id}:
        return f"it was decided while {data.lifts} was live, live is {state.live_id or 'none'}"
    if state.published(data.version) is not None and not state.approved(data.version):
        return f"version {data.version} was never approved"
    return _never_live_again(state, data.version)


def _never_live_again(state: ModelState, version: int) -> str:
    return f"version {version} is retired" if version in state.retired else _unpublished(state, version)


def _unpublished(state: ModelState, version: int) -> str:
    return "" if state.published(version) is not None else f"version {version} was never published"


def earlier_live(state: ModelState) -> list[ModelEvent]:
    """Return the events that made the versions before the live one live, the newest first.

    A version that a person took back by a rollback is not among them, nor is a retired one.
    """
    found: list[ModelEvent] = []
    for event in state.history:
        version = event.data.version
        known = [each.data.version for each in found]
        if isinstance(event.data, RolledBack) and version in known:
            found = found[: known.index(version)]  # what came after it was taken back
        if isinstance(event.data, Promoted | RolledBack) or _goes_live(event):
            found = [*(each for each in found if each.data.version != version), event]
    return [event for event in reversed(found[:-1]) if event.data.version not in state.retired]
