"""Records that cannot be read: every reader leaves them out, counts them, and names each one once.

So one bad record stops nobody. It has no effect on any reader: the result is that of the other records alone.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import structlog

from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_NAMED, _KNOWN, _SAID = 20, 10_000, 200
"""The records of a topic that are named one by one; the places that are remembered; the letters of a reason."""
_QUOTED = re.compile(r"'.*'|\".*\"|unknown field `[^`]*`", re.DOTALL)
logger = structlog.get_logger(__name__)


class KafkaPlace(NamedTuple):
    """The place of a record in Kafka."""

    topic: str
    partition: int
    offset: int


class KafkaRecord(Protocol):
    """A record that was read, as confluent-kafka's ``Message`` has it."""

    def topic(self) -> str | None:
        """Return its topic."""
        ...

    def partition(self) -> int | None:
        """Return its partition."""
        ...

    def offset(self) -> int | None:
        """Return its offset."""
        ...


class UnreadableRecords:
    """The records that the readers of a process could not read. Safe from any thread.

    The first records of a topic are logged one by one, each once, however often it is read. After them a line is logged
    each time their number has doubled. A reason has nothing of the record's content.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: set[KafkaPlace] = set()
        self._counts: Counter[str] = Counter()

    def counts(self) -> Mapping[str, int]:
        """Return the number of unreadable records of each topic."""
        with self._lock:
            return dict(self._counts)

    def skip(self, place: KafkaPlace, error: CodecError) -> None:
        """Count the record at this place, and name it, unless it is known already."""
        with self._lock:
            if place in self._known:
                return
            if len(self._known) < _KNOWN:
                self._known.add(place)
            self._counts[place.topic] += 1
            count = self._counts[place.topic]
        if count <= _NAMED or count & (count - 1) == 0:
            logger.warning(
                "a record cannot be read and is left out",
                topic=place.topic, partition=place.partition, offset=place.offset, reason=reason(error),
                unreadable=count,
            )  # fmt: skip


UNREADABLE = UnreadableRecords()
"""The unreadable records of this process. All its readers share this object."""
R = TypeVar("R", bound=KafkaRecord)
T = TypeVar("T")


def readable(records: Iterable[R], decode: Callable[[R], T], unreadable: UnreadableRecords = UNREADABLE) -> Iterator[T]:
    """Yield what ``decode`` returns for each record, in order. A record for which it raises CodecError is left out."""
    for record in records:
        try:
            found = decode(record)
        except CodecError as error:
            unreadable.skip(place_of(record), error)
        else:
            yield found


def place_of(record: KafkaRecord) -> KafkaPlace:
    """Return the place of a record."""
    topic, partition, offset = record.topic(), record.partition(), record.offset()
    return KafkaPlace(topic or "", -1 if partition is None else partition, -1 if offset is None else offset)


def reason(error: CodecError) -> str:
    """Return what an error says, without what it quotes: a record may hold secrets."""
    said = _QUOTED.sub("'…'", str(error))
    return said if len(said) <= _SAID else f"{said[:_SAID]}…"
