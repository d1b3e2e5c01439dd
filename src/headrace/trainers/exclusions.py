"""Spans of time marked bad: what was served in them enters neither training, gate nor reference.

``headrace.exclusions`` is a log that is kept for ever; what is excluded is the fold of it. A manifest lists the spans
that its run left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from headrace.bus import message
from headrace.bus.duration import moment
from headrace.errors import DefinitionError
from headrace.models.manifest import Span

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1


class Excluded(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="excluded"):
    """Requests made in [``from_us``, ``to_us``) are bad, for one model or (None) for all of them."""

    id: str
    model: str | None
    from_us: int
    to_us: int
    reason: str
    at_us: int
    format: int = FORMAT


class Included(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="included"):
    """The exclusion with this id was a mistake."""

    id: str
    reason: str
    at_us: int
    format: int = FORMAT


Change = Excluded | Included


def decode(data: bytes | None) -> Change:
    """The change in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, Change, FORMAT, "an exclusion of data")


def exclude(id_: str, model: str | None, span: Span, *, at_us: int) -> Excluded:
    """A change that excludes a span. Raises DefinitionError for an empty one, or one without a reason."""
    if span.from_us >= span.to_us:
        began, ended = (moment(us).isoformat() for us in (span.from_us, span.to_us))
        said = f"the span from {began} to {ended} is empty: its end, which is not in it, must come after its beginning"
        raise DefinitionError(said)
    if not span.reason.strip():
        raise DefinitionError("an exclusion is kept for ever: give the reason, such as 'sensor broken'")
    return Excluded(
        id=id_, model=model, from_us=span.from_us, to_us=span.to_us, reason=span.reason.strip(), at_us=at_us
    )


def fold(changes: Iterable[Change]) -> dict[str, Excluded]:
    """What is excluded after these changes, in the order of the log: id → exclusion, the oldest first.

    An id is used once: what came first counts. To include what is not excluded changes nothing.
    """
    known: dict[str, Excluded] = {}
    gone: set[str] = set()
    for change in changes:
        if isinstance(change, Included):
            gone |= {change.id} & known.keys()
        else:
            known.setdefault(change.id, change)
    return {id_: found for id_, found in known.items() if id_ not in gone}


def spans(excluded: Iterable[Excluded], model: str) -> list[Span]:
    """The spans that concern a model, in order of time."""
    mine = (each for each in excluded if each.model in {None, model})
    return [
        Span(from_us=each.from_us, to_us=each.to_us, reason=each.reason)
        for each in sorted(mine, key=lambda each: (each.from_us, each.to_us, each.id))
    ]


class Exclusions(Protocol):
    """The log of exclusions."""

    def append(self, change: Change) -> None:
        """Returns once it is durable. Raises BusUnavailableError."""
        ...

    def in_force(self) -> dict[str, Excluded]:
        """What is excluded by now: :func:`fold`. Raises BusUnavailableError."""
        ...


class MemoryExclusions:
    """The double: changes in a list."""

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def append(self, change: Change) -> None:
        """Keep it."""
        self.changes.append(change)

    def in_force(self) -> dict[str, Excluded]:
        """The fold of the list."""
        return fold(self.changes)
