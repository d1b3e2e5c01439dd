"""Interventions: the model events by which a person decides. They are made here, and told in words.

A program that writes such an event itself needs none of this: `docs/reference/messages.md` shows the bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from msgspec import UNSET

from headrace.base.times import said_minute
from headrace.errors import TerminalError
from headrace.models.model_events import ModelEvent, Promoted, Published, Retired, RolledBack
from headrace.models.model_state import void_because

if TYPE_CHECKING:
    from headrace.models.model_state import ModelState

Intervention = Promoted | RolledBack | Retired


def pin(state: ModelState, model: str, reason: str, by: str) -> RolledBack:
    """Return the event data that holds the live version. Raises TerminalError if there is none.

    It is void if another version has come before it.
    """
    if state.version is None:
        raise TerminalError(f"model {model!r} has no live version: there is nothing to pin")
    return RolledBack(version=state.version, reason=reason, lifts=state.live_id or UNSET, by=by or UNSET)


def unpin(state: ModelState, model: str, reason: str, by: str) -> RolledBack:
    """Return the event data that removes the pin; the live version stays. Raises TerminalError if there is no pin."""
    if state.version is None:
        raise TerminalError(f"model {model!r} has no live version: there is nothing to unpin")
    if state.pin is None:
        raise TerminalError(f"model {model!r} is not pinned: version {state.version} is live, and may be replaced")
    return RolledBack(version=state.version, reason=reason, pin=False, lifts=state.pin.id, by=by or UNSET)


def intervene(state: ModelState, data: Intervention, *, id_: str, model: str, at_us: int) -> ModelEvent:
    """Return the event of a person's decision. Raises TerminalError, with the reason, if it would change nothing."""
    event = ModelEvent(id=id_, model=model, at_us=at_us, data=data)
    why = void_because(state, event) or _nothing_new(state, data)
    if why:
        known = sorted(e.data.version for e in state.history if isinstance(e.data, Published))
        wanted = _wanted(data)
        raise TerminalError(f"model {model!r} cannot {wanted}: {why}; published versions: {known}")
    return event


def _nothing_new(state: ModelState, data: Intervention) -> str:
    if not data.reason.strip() and not (isinstance(data, RolledBack) and not data.pin):
        return "give the reason: it is kept in the event"
    if isinstance(data, Promoted) and data.version == state.version and not state.pinned:
        return f"version {data.version} is live already"
    if isinstance(data, Retired) and data.version in state.retired:
        return f"version {data.version} is retired already"
    return ""


def _wanted(data: Intervention) -> str:
    match data:
        case Promoted(version=version):
            return f"promote version {version}"
        case RolledBack(version=version):
            return f"go back to version {version}"
        case Retired(version=version):
            return f"retire version {version}"
        case _:
            assert_never(data)


def told(event: ModelEvent) -> str:
    """Return in words what a model event did, who did it, when and why: "version 1 was pinned by ann@desk at …"."""
    data = event.data
    at = f"at {said_minute(event.at_us)}"
    if isinstance(data, Published):
        return f"version {data.version} was published {at}"
    by = "" if data.by is UNSET else f" by {data.by}"
    reason = f": {data.reason}" if data.reason else ""
    return f"version {data.version} was {_done(data)}{by} {at}{reason}"


def _done(data: Intervention) -> str:
    match data:
        case Promoted():
            return "promoted"
        case RolledBack(pin=held):
            return "pinned" if held else "unpinned"
        case Retired():
            return "retired"
        case _:
            assert_never(data)
