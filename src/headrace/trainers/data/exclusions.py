"""Spans of time that are marked bad. Requests made in them enter neither training, gate nor reference.

The topic ``exclusions`` is a log that is kept for ever. Folding it gives the exclusions in force. The manifest of a run
lists the spans that the run left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import Instant, utc_datetime
from headrace.bus import message
from headrace.bus.producer import EventProducer
from headrace.bus.tail import TopicTail
from headrace.bus.topics import FOR_EVER, TopicPlan, ensure_topics
from headrace.bus.unreadable_records import readable
from headrace.errors import DefinitionError
from headrace.models.manifest import TimeSpan

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = 1


class Excluded(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="excluded"):
    """Marks requests made in [``from_us``, ``to_us``) as bad, for one model or (None) for all of them.

    ``by`` says who decided.
    """

    id: str
    model: str | None
    from_us: Instant
    to_us: Instant
    reason: str
    at_us: Instant
    format: int = FORMAT
    by: str | UnsetType = UNSET


class Included(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="included"):
    """Takes the exclusion with this id back. ``by`` says who decided."""

    id: str
    reason: str
    at_us: Instant
    format: int = FORMAT
    by: str | UnsetType = UNSET


ExclusionChange = Excluded | Included


def decode(data: bytes | None) -> ExclusionChange:
    """Return the change in these bytes. Raises CodecError, and NewerFormatError for a change of a later release."""
    return message.decode(data, ExclusionChange, FORMAT, "an exclusion of data")


def exclude(id_: str, model: str | None, span: TimeSpan, *, at_us: int, by: str | UnsetType = UNSET) -> Excluded:
    """Return a change that excludes a span. Raises DefinitionError if the span is empty or has no reason."""
    if span.from_us >= span.to_us:
        began, ended = (utc_datetime(us).isoformat() for us in (span.from_us, span.to_us))
        said = f"the span from {began} to {ended} is empty: its end, which is not in it, must come after its beginning"
        raise DefinitionError(said)
    if not span.reason.strip():
        raise DefinitionError("an exclusion is kept for ever: give the reason, such as 'sensor broken'")
    return Excluded(
        id=id_, model=model, from_us=span.from_us, to_us=span.to_us, reason=span.reason.strip(), at_us=at_us, by=by
    )


def fold(changes: Iterable[ExclusionChange]) -> dict[str, Excluded]:
    """Return the exclusions in force after these changes, in the order of the log: id → exclusion, the oldest first.

    If two exclusions have the same id, the first one counts. Including something that is not excluded changes nothing.
    """
    known: dict[str, Excluded] = {}
    gone: set[str] = set()
    for change in changes:
        if isinstance(change, Included):
            gone |= {change.id} & known.keys()
        else:
            known.setdefault(change.id, change)
    return {id_: found for id_, found in known.items() if id_ not in gone}


def excluded_spans(excluded: Iterable[Excluded], model: str) -> list[TimeSpan]:
    """Return the spans that concern a model, in order of time."""
    mine = (each for each in excluded if each.model in {None, model})
    return [
        TimeSpan(from_us=each.from_us, to_us=each.to_us, reason=each.reason)
        for each in sorted(mine, key=lambda each: (each.from_us, each.to_us, each.id))
    ]


def merged(spans: Iterable[TimeSpan]) -> list[tuple[int, int]]:
    """Return the times [from, to) that the spans cover together, in order; spans that touch are one.

    >>> from headrace.models.manifest import TimeSpan
    >>> halves = TimeSpan(from_us=5, to_us=9, reason="b"), TimeSpan(from_us=0, to_us=5, reason="a")
    >>> merged(halves)
    [(0, 9)]
    """
    found: list[tuple[int, int]] = []
    for span in sorted(spans, key=lambda span: span.from_us):
        if found and span.from_us <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], span.to_us))
        else:
            found.append((span.from_us, span.to_us))
    return found


class Exclusions(Protocol):
    """The log of exclusions."""

    def append(self, change: ExclusionChange) -> None:
        """Called to add a change. It returns when the change is durable. Raises BusUnavailableError."""
        ...

    def in_force(self) -> dict[str, Excluded]:
        """Return the exclusions in force now: :func:`fold`. Raises BusUnavailableError."""
        ...


class MemoryExclusions:
    """:class:`Exclusions` in this process: the changes are a list.

    >>> from headrace.testing import MemoryExclusions
    >>> MemoryExclusions().in_force()
    {}
    """

    def __init__(self) -> None:
        self.changes: list[ExclusionChange] = []

    def append(self, change: ExclusionChange) -> None:
        """Keep the change."""
        self.changes.append(change)

    def in_force(self) -> dict[str, Excluded]:
        """Fold the list."""
        return fold(self.changes)


class KafkaExclusions:
    """Keeps the changes in a Kafka topic. Each call reads what is new in it. Not for several threads at once.

    A record that cannot be read is left out, and named in the log.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        """Make the topic, a namespace's ``exclusions``, if there is none. Raises BusUnavailableError."""
        self._servers = bootstrap_servers
        self._topic = topic
        ensure_topics(bootstrap_servers, [TopicPlan(topic, 1, FOR_EVER)])
        self._tail = TopicTail(bootstrap_servers, [topic], from_beginning=True)
        self._changes: list[ExclusionChange] = []

    def append(self, change: ExclusionChange) -> None:
        """Send the change and wait for the broker."""
        producer = EventProducer(self._servers)
        producer.put(self._topic, None, msgspec.json.encode(change))
        producer.flush()

    def in_force(self) -> dict[str, Excluded]:
        """Fold the topic up to its present end."""
        self._changes += readable(self._tail.drain(), lambda record: decode(record.value()))
        return fold(self._changes)

    def close(self) -> None:
        """Close the connection."""
        self._tail.close()
