"""The records that a look-up leaves out: each row's own, in the views that are made from its topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headrace.features.kernel.field import next_offset
from headrace.features.kernel.taking_out import fields_without

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.source_partition import RecordPlace
    from headrace.features.kernel.tile_kernel import TileKernel
    from headrace.features.online.store import ShardSnapshot


@dataclass(frozen=True)
class LeftOutRecords:
    """One record for each row of a look-up, of ``topic``. The rows are the events of these records.

    ``places`` has None for a row whose record is not known, for example because it is not produced yet.
    """

    topic: str
    places: Sequence[RecordPlace | None]

    def taken_out(
        self,
        kernel: TileKernel,
        rows: Sequence[Mapping[str, Any]],
        stored: Sequence[tuple[Sequence[bytes], ShardSnapshot]],
    ) -> list[Sequence[bytes]]:
        """Return the stored fields of each row, with one more field where its record was folded into them.

        ``stored`` has the fields of each row's entity, with the snapshot of its shard.
        """
        folded = [
            row
            for row, (place, (packed, snapshot)) in enumerate(zip(self.places, stored, strict=True))
            if place is not None and _is_folded(place, packed, snapshot)
        ]
        found = [packed for packed, _ in stored]
        for row, field in zip(folded, fields_without(kernel, [rows[row] for row in folded]), strict=True):
            place = self.places[row]
            if field is not None and place is not None:
                found[row] = [*found[row], place.source.field, field]
        return found


def _is_folded(place: RecordPlace, packed: Sequence[bytes], snapshot: ShardSnapshot) -> bool:
    """Return whether an entity's fields contain a record: there is a field of its partition, and V is above it."""
    own = dict(zip(packed[::2], packed[1::2], strict=True)).get(place.source.field)
    if own is None:
        return False
    return place.offset < max(next_offset(own), snapshot.offsets.get(place.source.text, 0))
