"""Which version was live at a time, by the model events; and which application had loaded what, by acknowledgements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.models.model_state import ModelState, advance

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.models.model_events import Acknowledgement, ModelEvent


@dataclass(frozen=True)
class LiveAt:
    """The state of a model at a time. Its version was live since ``since_us``; None before the first event."""

    state: ModelState
    since_us: int | None


@dataclass(frozen=True)
class LoadedAt:
    """What an application had loaded at a time: the version that it acknowledged last, None if it had none.

    ``since_us`` is the time since when it has this version without another in between.
    ``refused`` is its last answer that it could not load a version, if it came after that.
    """

    application: str
    version: int | None
    since_us: int | None
    refused: Acknowledgement | None = None


def live_at(events: Iterable[ModelEvent], t_us: int) -> LiveAt:
    """Return the state of one model at ``t_us``, from all its events in the order of the log.

    The order of the log stands above the times in it: an event counts as not earlier than those before it. The time of
    a void event counts for nothing.
    """
    state, since_us, clock_us = ModelState(), None, None
    for event in events:
        after = advance(state, event)
        if after.history != state.history:
            clock_us = event.at_us if clock_us is None else max(clock_us, event.at_us)
            if clock_us > t_us:
                break
        since_us = clock_us if after.version != state.version else since_us
        state = after
    return LiveAt(state, since_us)


def loaded_at(acknowledgements: Iterable[Acknowledgement], t_us: int) -> list[LoadedAt]:
    """Return what each application of one model had loaded at ``t_us``, in the order of their names."""
    found: dict[str, LoadedAt] = {}
    for each in acknowledgements:
        if each.at_us > t_us:
            continue
        name = each.application
        before = found.get(name, LoadedAt(name, None, None))
        if each.ok:
            is_same = before.version == each.version
            found[name] = LoadedAt(name, each.version, before.since_us if is_same else each.at_us)
        else:
            found[name] = LoadedAt(name, before.version, before.since_us, each)
    return [found[name] for name in sorted(found)]
