"""A source partition: one partition of one incarnation of a topic. It is the unit of ordering and of ownership."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Sequence


_SOURCE = struct.Struct("<16sI")


TOPIC_ID_BYTES = 16


IMPORT_MARK = b"import\x80"
"""The first bytes of the id of an import. Kafka's ids are UUIDs of version 4, and the 7th byte begins with the version:
so no topic has an id with 8 there."""
_FIRST_IMPORT = 1 << 16


NO_CLOCK = -(2**62)
"""The clock of a partition that has no record yet, in microseconds."""


_SKEW_US = 60_000_000
"""The largest difference between the clocks of two machines that is not a fault, in microseconds."""


def credible_ahead_us(tolerance_us: int) -> int:
    """Return how far the clock of a partition may be ahead of the clock of a machine.

    It is the tolerance of the partition's stream, and at least a minute, because the clocks of machines differ. A
    partition's clock that is further ahead comes from a record with a wrong time.
    """
    return max(tolerance_us, _SKEW_US)


@dataclass(frozen=True, order=True)
class SourcePartition:
    """A partition of one incarnation of a topic. A topic that is created anew has another id, so other partitions."""

    partition: int
    topic_id: bytes

    @property
    def is_import(self) -> bool:
        """True if its rows were imported from files. Then no topic has them."""
        return is_import(self.topic_id)

    @property
    def field(self) -> bytes:
        """The name of its field in the online store: topic id, then partition."""
        return _SOURCE.pack(self.topic_id, self.partition)

    @property
    def text(self) -> str:
        """``<topic id as 32 hex digits>-<partition>``, as in Delta transactions and logged offsets."""
        return f"{self.topic_id.hex()}-{self.partition}"

    @staticmethod
    def from_field(field: bytes) -> SourcePartition:
        """Return the source partition that a field name stands for. Raises CodecError."""
        if len(field) != _SOURCE.size:
            message = f"{field!r} is not a source partition: wanted {_SOURCE.size} bytes, topic id and partition"
            raise CodecError(message)
        topic_id, partition = _SOURCE.unpack(field)
        return SourcePartition(partition, topic_id)

    @staticmethod
    def from_text(text: str) -> SourcePartition:
        """Return the source partition that :attr:`text` stands for."""
        topic_id, _, partition = text.rpartition("-")
        return SourcePartition(int(partition), bytes.fromhex(topic_id))


def is_import(topic_id: bytes) -> bool:
    """Return whether a topic id is the id of an import of files."""
    return topic_id.startswith(IMPORT_MARK)


def import_partition(digest: bytes) -> SourcePartition:
    """Return the one source partition of the import that a digest of its files names. It needs 9 bytes of it.

    Its number is beyond those of a topic, so a read of one partition skips the files of the others by statistics.

    >>> import_partition(bytes(9)).text
    '696d706f727480000000000000000000-65536'
    """
    number = _FIRST_IMPORT + int.from_bytes(digest[:2], "big")
    return SourcePartition(number, IMPORT_MARK + digest[: TOPIC_ID_BYTES - len(IMPORT_MARK)])


@dataclass(frozen=True, order=True)
class RecordPlace:
    """The place of one record: its source partition, and its offset there."""

    source: SourcePartition
    offset: int

    @property
    def text(self) -> str:
        """``<topic id as 32 hex digits>-<partition>-<offset>``, as in served vectors and dead letters."""
        return f"{self.source.text}-{self.offset}"


def by_source(packed: Sequence[bytes]) -> dict[SourcePartition, bytes]:
    """Return the bytes of each source partition, from field names and bytes in turn. Raises CodecError."""
    return {SourcePartition.from_field(name): data for name, data in zip(packed[::2], packed[1::2], strict=True)}


@lru_cache(maxsize=4096)
def text_of(name: bytes) -> str:
    """Return the text of the source partition that a field name stands for. Raises CodecError."""
    return SourcePartition.from_field(name).text
