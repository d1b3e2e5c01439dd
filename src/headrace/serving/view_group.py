"""Views that are looked up together: they make the entity keys to read, and the rows' values from the fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from headrace.bus.source_partition import NO_CLOCK, credible_ahead_us, text_of
from headrace.features.definitions.view_spec import NO_KEY_VALUE
from headrace.features.online.entity_key import serializer
from headrace.features.online.field_reader import FieldOffsets, FieldReader
from headrace.features.online.store import StoredFields
from headrace.serving.feature_vectors import Status, ViewAnswer

if TYPE_CHECKING:
    from headrace.features.kernel.tile_kernel import TileKernel
    from headrace.features.online.field_reader import FieldsRead
    from headrace.features.online.store import ShardSnapshot, WantedKeys
    from headrace.features.online.value_columns import ValueColumns
    from headrace.serving.left_out import LeftOutRecords

    RowValues = Sequence[Mapping[str, Any]]

_FOR_EVER = 2**63
_MISSING, _STALE, _PRESENT = Status.MISSING, Status.STALE, Status.PRESENT


class RowKeys(NamedTuple):
    """The distinct entity keys of some rows, and the key of each row.

    ``key_of_row`` is None if each row has a key of its own. All rows without a key share one additional key. It
    is the last one and is not read.
    """

    keys: Sequence[bytes]
    key_of_row: np.ndarray | None
    has_rows_without_key: bool

    def fields(self, stored: StoredFields) -> Sequence[Sequence[bytes]]:
        """The stored fields of each key."""
        return [*stored.packed, ()] if self.has_rows_without_key else stored.packed

    def shards(self, stored: StoredFields) -> Sequence[int]:
        """The shard of each key."""
        return [*stored.shards, min(stored.snapshots)] if self.has_rows_without_key else stored.shards


class _ViewRead(NamedTuple):
    """One view's part of a look-up; ``values`` and ``ages_us`` have one item for each key."""

    row_keys: RowKeys
    stored: StoredFields
    clock: int
    values: ValueColumns
    ages_us: np.ndarray
    offsets: FieldOffsets


class GroupRead:
    """The fields of all views of a group, as one look-up found them."""

    def __init__(self, group: ViewGroup, row_keys: Sequence[RowKeys], stored: Sequence[StoredFields]) -> None:
        self._group, self._row_keys, self._stored = group, row_keys, stored
        packed = [keys.fields(fields) for keys, fields in zip(row_keys, stored, strict=True)]
        self._fields: FieldsRead = group.reader.read(packed)
        self.clocks = [max(clock, own.clock) for clock, own in zip(self._fields.clocks, stored, strict=True)]
        """The largest partition clock of each view, over its cursors and its fields."""

    def without(self, left_out: LeftOutRecords, rows: RowValues) -> GroupRead:
        """Return the same read without the rows' own records. Each row then has a key of its own."""
        of_views = [
            _without(view, keys, stored, left_out, rows)
            if left_out.topic in view.kernel.spec.topics
            else (keys, stored)
            for view, keys, stored in zip(self._group.views, self._row_keys, self._stored, strict=True)
        ]
        return GroupRead(self._group, [keys for keys, _ in of_views], [stored for _, stored in of_views])

    def at_us(self, now_us: int) -> int:
        """Return the t of a look-up at ``now_us``: the latest of this time and the views' clocks.

        A clock that is ahead by more than its stream may be does not count. One record with a time far ahead moves its
        partition's clock there, and at that time all windows are empty.
        """
        views = self._group.views
        return max([now_us, *(c for c, view in zip(self.clocks, views, strict=True) if c <= now_us + view.credible_us)])

    def stream_us(self, now_us: int) -> int:
        """Return the t of the stream clock: the largest clock of a partition of the views; 0 if there is none yet.

        History is never later than now. So a partition's clock that is ahead of ``now_us``, as in :meth:`at_us`, does
        not count. If all are, t is ``now_us``.
        """
        clocks, credible = [], []
        for view, stored, of_fields in zip(self._group.views, self._stored, self._fields.clocks, strict=True):
            of_cursors = (each.clock for snapshot in stored.snapshots.values() for each in snapshot.cursors.values())
            own = [clock for clock in (of_fields, *of_cursors) if clock > NO_CLOCK]
            clocks += own
            credible += [clock for clock in own if clock <= now_us + view.credible_us]
        return max(credible, default=now_us if clocks else 0)

    def answers(self, at_us: int, heartbeat_bound_us: int) -> list[ViewAnswer]:
        """Return the answer of each view at t."""
        values, ages_us, offsets = self._fields.values(at_us), self._fields.ages_us(at_us), self._fields.offsets
        return [
            view.answer(
                _ViewRead(
                    row_keys=self._row_keys[place],
                    stored=self._stored[place],
                    clock=self.clocks[place],
                    values=values[place],
                    ages_us=ages_us[place],
                    offsets=offsets[place],
                ),
                at_us,
                heartbeat_bound_us,
            )
            for place, view in enumerate(self._group.views)
        ]


def _without(
    view: ViewVersion, keys: RowKeys, stored: StoredFields, left_out: LeftOutRecords, rows: RowValues
) -> tuple[RowKeys, StoredFields]:
    """Return the keys and the fields of one view, one for each row, without the rows' own records."""
    places = range(len(rows)) if keys.key_of_row is None else keys.key_of_row.tolist()
    fields, shards = keys.fields(stored), keys.shards(stored)
    own = [(fields[key], stored.snapshots[shards[key]]) for key in places]
    packed = left_out.taken_out(view.kernel, rows, own)
    alone = RowKeys([b""] * len(rows), None, has_rows_without_key=False)  # they have been read, so nobody needs them
    return alone, StoredFields(stored.snapshots, [shards[key] for key in places], packed)


class ViewGroup:
    """Views that are looked up together, with everything about them that does not change between look-ups."""

    def __init__(self, views: Sequence[ViewVersion]) -> None:
        self.views = views
        self.reader = FieldReader([view.kernel for view in views])
        by_entity = {view.entity: view for view in views}
        self._one_of_each_entity = [*by_entity.values()]
        self._entity_of_view = [[*by_entity].index(view.entity) for view in views]

    def row_keys(self, rows: RowValues) -> list[RowKeys]:
        """Return the keys of some rows, for each view. Views of the same entity share their keys."""
        of_entities = [view.row_keys(rows) for view in self._one_of_each_entity]
        return [of_entities[entity] for entity in self._entity_of_view]

    def wanted(self, row_keys: Sequence[RowKeys]) -> WantedKeys:
        """Return the keys to read of each view."""
        return [(view.name, keys.keys) for view, keys in zip(self.views, row_keys, strict=True)]


class ViewVersion:
    """One version of a view: makes keys from rows, and answers from stored fields. ``name`` is ``view@version``."""

    def __init__(self, name: str, kernel: TileKernel) -> None:
        self.name = name
        self.kernel = kernel
        self.entity = tuple((key, kind) for key, kind in kernel.entity_keys)
        self._view = kernel.spec.name
        self._columns = kernel.columns
        self._is_global = kernel.spec.entity.is_global
        self._join_keys = [] if self._is_global else [key for key, _ in self.entity]
        self._serialize = serializer(self.entity)
        self._history_us = kernel.spec.history_us
        self._topics = len(kernel.spec.topics)
        self.credible_us = credible_ahead_us(kernel.spec.tolerance_us)
        """The largest lead of the view's clock over the clock of the reader that can be right."""
        max_age_us = kernel.spec.max_age_us
        self._max_age_us = _FOR_EVER if max_age_us is None else max_age_us

    def row_keys(self, rows: RowValues) -> RowKeys:
        """Return the keys of some rows. A row that lacks a join key, or has None for it, has no key."""
        join_keys = self._join_keys
        of_rows = [tuple([row.get(key) for key in join_keys]) for row in rows]
        if self._is_global:
            of_rows = [(NO_KEY_VALUE,)] * len(rows)
        distinct = [values for values in dict.fromkeys(of_rows) if None not in values]
        keys = [self._serialize(values) for values in distinct]
        if len(distinct) == len(rows):
            return RowKeys(keys, None, has_rows_without_key=False)
        places = {values: place for place, values in enumerate(distinct)}
        key_of_row = np.array([places.get(values, len(places)) for values in of_rows])
        return RowKeys(keys, key_of_row, has_rows_without_key=bool((key_of_row == len(places)).any()))

    def answer(self, read: _ViewRead, at_us: int, heartbeat_bound_us: int) -> ViewAnswer:
        """Return the answer for each row. Rows with the same key get the same values."""
        key_of_row, shards = read.row_keys.key_of_row, read.row_keys.shards(read.stored)
        of_shards = {
            shard: self._status_of_shard(snapshot, read.clock, at_us, heartbeat_bound_us)
            for shard, snapshot in read.stored.snapshots.items()
        }
        values, ages_us = read.values, read.ages_us
        statuses = [
            of_shards[shard] or self._status_of_age(age) for shard, age in zip(shards, ages_us.tolist(), strict=True)
        ]
        if at_us < read.clock - self._history_us:
            values = values.absent()
        if key_of_row is not None:
            values = values.of_rows(key_of_row)
            statuses = [statuses[key] for key in key_of_row.tolist()]
            ages_us = ages_us[key_of_row]
        return ViewAnswer(
            self._view,
            self.kernel.version,
            self._columns,
            values,
            statuses,
            ages_us,
            _RowOffsets(read.stored.snapshots, shards, read.offsets, key_of_row),
            self._join_keys,
            self.kernel.dims,
        )

    def _status_of_age(self, age_us: int) -> Status:
        if age_us < 0:
            return _MISSING
        return _STALE if age_us > self._max_age_us else _PRESENT

    def _status_of_shard(
        self, snapshot: ShardSnapshot, clock: int, at_us: int, heartbeat_bound_us: int
    ) -> Status | None:
        """The status that all entities of the view in one shard share; None if each has its own."""
        if at_us < clock - self._history_us:
            return Status.OUT_OF_RANGE
        _, is_live, heartbeat_us = snapshot.summary_of(self._topics)
        if not is_live:
            return Status.REBUILDING
        return Status.STALE if heartbeat_us < snapshot.now_us - heartbeat_bound_us else None


class _RowOffsets(Sequence[Mapping[str, int]]):
    """V of each row, computed when it is read: for each partition the larger of its cursor and its field's header."""

    def __init__(
        self,
        snapshots: Mapping[int, ShardSnapshot],
        shards: Sequence[int],
        offsets: FieldOffsets,
        key_of_row: np.ndarray | None,
    ) -> None:
        self._snapshots, self._shards, self._offsets = snapshots, shards, offsets
        self._key_of_row: Sequence[int] | np.ndarray = range(len(shards)) if key_of_row is None else key_of_row

    def __len__(self) -> int:
        return len(self._key_of_row)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, int]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, int]]: ...

    def __getitem__(self, index: int | slice) -> Mapping[str, int] | Sequence[Mapping[str, int]]:
        if isinstance(index, slice):
            return [self._of_key(int(key)) for key in self._key_of_row[index]]
        return self._of_key(int(self._key_of_row[index]))

    def _of_key(self, key: int) -> dict[str, int]:
        offsets = dict(self._snapshots[self._shards[key]].offsets)
        for name, next_offset in self._offsets.of_key(key):
            text = text_of(name)
            offsets[text] = max(offsets.get(text, 0), next_offset)
        return offsets
