"""Reads the fields of a look-up of many views: the headers as arrays, the tiles directly from the bytes.

A small look-up spends its time in calls of numpy. So everything that can be done for all views at once is done at once;
only the merge of tiles is done by each view's kernel. read_plan.py has a drawing of keys, fields, parts and runs.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.kernel.field import unpack
from headrace.features.online.read_plan import HEADER_WORDS, ReadPlan, ReadPlanner, bounds_of
from headrace.features.online.value_columns import ValueBlock, ValueColumns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.features.kernel.tile_kernel import TileKernel
    from headrace.features.kernel.window_tiles import WindowTiles

T = TypeVar("T")
_KIND = 0xFFFF00FF
"""The bits of a field's first word that hold its format and its number of tile sizes."""
_NO_WORDS = -(2**63) | 7
"""The bits that are 0 in a number of bytes that is not negative and is a whole number of words."""
_HEADER = np.arange(HEADER_WORDS)[:, None]
_NEXT_OFFSET, _CLOCK, _NEWEST = 1, 2, 3
"""The words of a header after the first."""
_MOST_PLANS, _SMALL = 256, 64
"""The number of plans that a reader keeps, and the largest number of keys in such a plan."""


class FieldReader:
    """Reads the fields of some views. It keeps everything that does not change between look-ups of these views."""

    def __init__(self, kernels: Sequence[TileKernel]) -> None:
        kinds = [kernel.alike for kernel in kernels]
        self.order = sorted(range(len(kernels)), key=lambda view: kinds.index(kinds[view]))
        """The views, sorted so that views that are alike are neighbours. Everything else is in this order."""
        self.kernels = kernels = [kernels[view] for view in self.order]
        self.by_field = [view for view, kernel in enumerate(kernels) if not kernel.is_plain]
        """The views that are read field by field."""
        firsts = [view for view in range(len(kernels)) if not view or kernels[view].alike != kernels[view - 1].alike]
        self.alike = list(pairwise([*firsts, len(kernels)]))
        """The first view, and the end, of each set of views that are alike."""
        self._planner = ReadPlanner(kernels, [*firsts, len(kernels)])
        self._plans: dict[tuple[tuple[int, ...], tuple[int, ...]], ReadPlan] = {}

    def plan(self, fields_of_keys: tuple[int, ...], keys_of_views: tuple[int, ...]) -> ReadPlan:
        """Return the plan of a look-up with that many fields of each key, and keys of each view.

        Small look-ups often have the same numbers, so their plans are kept; large ones never have.
        """
        known = self._plans.get((fields_of_keys, keys_of_views))
        if known is None:
            known = self._planner.plan(fields_of_keys, keys_of_views)
            if len(fields_of_keys) <= _SMALL:
                if len(self._plans) >= _MOST_PLANS:
                    self._plans.clear()
                self._plans[fields_of_keys, keys_of_views] = known
        return known

    def read(self, packed: Sequence[Sequence[Sequence[bytes]]]) -> FieldsRead:
        """Read the answer of a store: for each view and key its source partitions and fields, alternating.

        Raises CodecError for bytes of another format or length.
        """
        return FieldsRead(self, [packed[view] for view in self.order])

    def in_given_order(self, found: Sequence[T]) -> list[T]:
        """Return items of the sorted views in the order in which the views were given."""
        given = list(found)
        for view, of_view in zip(self.order, found, strict=True):
            given[view] = of_view
        return given


@lru_cache(maxsize=256)
def _order(names: frozenset[bytes]) -> Mapping[bytes, int]:
    return {name: place for place, name in enumerate(sorted(names, key=SourcePartition.from_field))}


class FieldOffsets(NamedTuple):
    """The next offsets of all fields of a look-up, and where those of one view begin.

    ``numbers`` has the number of fields of each key, and ``first`` is the view's first key.
    """

    names: Sequence[bytes]
    next_offsets: np.ndarray
    numbers: np.ndarray
    first: int

    def of_key(self, key: int) -> Iterable[tuple[bytes, int]]:
        """The source partitions of one key of the view, by name, each with its next offset."""
        begin = int(self.numbers[: self.first + key].sum())
        end = begin + int(self.numbers[self.first + key])
        return zip(self.names[begin:end], self.next_offsets[begin:end].tolist(), strict=True)


class FieldsRead:
    """The fields that one look-up found. Methods answer for each view, in the order in which the views were given."""

    def __init__(self, reader: FieldReader, packed: Sequence[Sequence[Sequence[bytes]]]) -> None:
        self._reader = reader
        keys = [*chain.from_iterable(packed)]
        words = [*chain.from_iterable(keys)]
        self._names, self._fields = words[::2], words[1::2]
        self._plan = reader.plan(tuple([len(of_key) >> 1 for of_key in keys]), tuple(map(len, packed)))
        self._order = self._sorted() if self._plan.is_mixed else None
        self._decode()

    # -- headers ----------------------------------------------------------------------------------------------------

    def _sorted(self) -> np.ndarray:
        """The fields, sorted by key and then by source partition."""
        order = _order(frozenset(self._names))
        return np.lexsort((np.array([order[name] for name in self._names]), self._plan.fields.key))

    def _decode(self) -> None:
        fields, stored = self._plan.fields, self._plain_parts()
        lengths = np.fromiter(map(len, stored), np.int64, len(stored))
        rest = lengths - fields.front_bytes
        blob = b"".join(stored)
        is_sound = not np.count_nonzero(rest & _NO_WORDS)  # any() and all() are slow: they are Python
        if is_sound:
            begins = (lengths.cumsum() - lengths) >> 3
            self._words = np.frombuffer(blob, "<i8")
            self._heads = self._words.take(begins + _HEADER)
            if self._order is not None:
                begins, rest = begins[self._order], rest[self._order]
            self._begins = begins
            half_words = self._words.view("<u4")
            parts = self._plan.parts
            self._tiles = half_words.take(2 * begins[parts.field] + parts.half_word).astype(np.int64)
            self._tiles_before = bounds_of(self._tiles)
            before = self._tiles_before[fields.part_bounds]
            has_all_tiles = fields.words * (before[1:] - before[:-1]) == rest >> 3
            is_sound = np.count_nonzero(has_all_tiles & (self._heads[0] & _KIND == fields.kind)) == len(stored)
        if not is_sound:
            self._raise()

    def _raise(self) -> None:
        """Read the fields one by one: the one that is wrong raises CodecError."""
        for view, (begin, end) in enumerate(pairwise(self._plan.fields.view_bounds)):
            for data in self._fields[begin:end]:
                unpack(data, self._reader.kernels[view].layout)

    def _plain_parts(self) -> Sequence[bytes]:
        """The fields; those of views that are not plain without their tiles, which need not be whole words."""
        if not self._reader.by_field:
            return self._fields
        cut = list(self._fields)
        for view in self._reader.by_field:
            own = slice(*self._plan.fields.view_bounds[view : view + 2])
            front = self._reader.kernels[view].layout.front_bytes
            cut[own] = [data[:front] for data in cut[own]]
        return cut

    @property
    def clocks(self) -> list[int]:
        """The largest partition clock in the headers of each view's fields."""
        clocks, found = [NO_CLOCK] * len(self._reader.kernels), self._plan.found
        if found.views:
            largest = np.maximum.reduceat(self._heads[_CLOCK], found.begin).tolist()
            for view, clock in zip(found.views, largest, strict=True):
                clocks[view] = clock
        return self._reader.in_given_order(clocks)

    @property
    def offsets(self) -> list[FieldOffsets]:
        """The next offsets in the headers of each view's fields."""
        names, next_offsets, keys = self._names, self._heads[_NEXT_OFFSET], self._plan.keys
        return self._reader.in_given_order(
            [FieldOffsets(names, next_offsets, keys.fields, begin) for begin in keys.bounds[:-1]]
        )

    def ages_us(self, at_us: int) -> list[np.ndarray]:
        """The microseconds from the newest event of each key to t, for each view; -1 where no event is known."""
        keys = self._plan.keys
        ages = np.full(len(keys.fields), -1)
        if len(keys.known):
            ages[keys.known] = np.maximum(at_us - np.maximum.reduceat(self._heads[_NEWEST], keys.known_begin), 0)
        return self._reader.in_given_order([ages[begin:end] for begin, end in pairwise(keys.bounds)])

    # -- values -----------------------------------------------------------------------------------------------------

    def values(self, at_us: int) -> list[ValueColumns]:
        """The values of each view's keys at t, with one column for each feature and window of its kernel."""
        groups, keys = self._plan.groups, self._plan.keys
        tiles = self._seen_tiles(at_us)
        is_first = np.empty(len(tiles.group), bool)
        is_first[:1] = True
        np.not_equal(tiles.group[1:], tiles.group[:-1], out=is_first[1:])
        starts = is_first.nonzero()[0]
        edges = tiles.group.searchsorted(groups.edges)
        bounds, start_bounds = edges.tolist(), starts.searchsorted(edges).tolist()
        filled, at = tiles.group[starts], np.array([at_us])
        found: list[ValueColumns] = []
        for number, (view, end) in enumerate(self._reader.alike):
            kernel = self._reader.kernels[view]
            if not kernel.is_plain:
                found += [self._values_by_field(own, at_us) for own in range(view, end)]
                continue
            own, own_starts = slice(*bounds[number : number + 2]), slice(*start_bounds[number : number + 2])
            blocks = kernel.evaluate_words(
                self._words.take(tiles.place[own] + kernel.words),
                starts[own_starts] - bounds[number],
                tiles.rank[own] if self._plan.is_mixed else None,
                filled[own_starts] - groups.bounds[number],
                keys.bounds[end] - keys.bounds[view],
                at,
            )
            shared = [ValueBlock(*values) for values in blocks]
            found += [ValueColumns(shared, len(kernel.windows), rows) for rows in groups.rows[view:end]]
        return self._reader.in_given_order(found)

    def _seen_tiles(self, at_us: int) -> _SeenTiles:
        """Return the tiles inside their window at t, in the order of the groups."""
        runs, before = self._plan.runs, self._tiles_before
        step, counts = runs.words, self._tiles[runs.part]
        place = self._begins[runs.field] + runs.front
        place += step * (before[runs.part] - before[runs.first_part] - counts.cumsum() + counts)
        run = runs.number.repeat(counts)
        place = place[run] + step[run] * np.arange(len(run))
        last, tiles = (at_us - runs.lag_us) // runs.size_us, runs.tiles
        if runs.calendar is not None:
            last, tiles = _of_calendar(*runs.calendar, at_us)
        age = last[run] - self._words[place]
        inside = (age.view(np.uint64) < tiles[run]).nonzero()[0]  # a tile that is newer than the last has a huge age
        if len(inside) < len(run):
            run, place = run[inside], place[inside]
        return _SeenTiles(place, runs.group[run], run)

    def _values_by_field(self, view: int, at_us: int) -> ValueColumns:
        """The values of a view that is not plain: its tiles have no fixed width, or its rows choose among them."""
        kernel, (begin, end) = self._reader.kernels[view], self._plan.fields.view_bounds[view : view + 2]
        first, stop = self._plan.keys.bounds[view : view + 2]
        places = range(begin, end) if self._order is None else self._order[begin:end].tolist()
        fields = [unpack(self._fields[place], kernel.layout)[1] for place in places]
        key, rank = self._plan.fields.key[begin:end] - first, np.arange(end - begin)
        sizes = range(len(kernel.sizes))
        counts = [[len(tiles[size]) for tiles in fields] for size in sizes]
        found = kernel.evaluate(
            [kernel.join([tiles[size] for tiles in fields]) for size in sizes],
            [np.repeat(key, number) for number in counts],
            [np.repeat(rank, number) for number in counts],
            np.full(stop - first, at_us),
        )
        return ValueColumns([ValueBlock(*values) for values in found], 1, range(stop - first))


def _of_calendar(windows: Sequence[WindowTiles], window: np.ndarray, at_us: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the last k of each run's window at t, and the number of its tiles."""
    spans = [window.span(np.array([at_us])) for window in windows]
    first, last = (np.concatenate(ends) for ends in zip(*spans, strict=True))
    return last[window], (last - first + 1).astype(np.uint64)[window]


class _SeenTiles(NamedTuple):
    """One item for each tile inside its window at t: its word in the bytes, its group, its partition's rank there."""

    place: np.ndarray
    group: np.ndarray
    rank: np.ndarray
