"""The fields of many views, as one look-up found them, read together: headers as arrays, tiles where they lie.

Calls of numpy are what a small look-up pays for, so what can be done for all views at once is. Only the merge is each
view's own: that of its kernel. A *part* is the tiles of one size in one field; a *run* is a part as one window sees it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.features.kernel.field import unpack
from headrace.features.online.value_columns import ValueBlock, ValueColumns

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from headrace.features.kernel.tile_kernel import TileKernel

T = TypeVar("T")
_HEADER_WORDS = 4
_KIND = 0xFFFF00FF
"""Of the first word of a field: its format and the number of its tile sizes."""
_NO_WORDS = -(2**63) | 7
"""What numbers of bytes have in no bit that are of whole words, and not below 0."""
_HEADER = np.arange(_HEADER_WORDS)[:, None]
_SHAPES, _SMALL = 256, 64
"""How many shapes are kept, and of how many keys."""


class FieldReader:
    """How the fields of some views are read: what of it is the same for every look-up."""

    def __init__(self, kernels: Sequence[TileKernel]) -> None:
        kinds = [kernel.alike for kernel in kernels]
        self.order = sorted(range(len(kernels)), key=lambda view: kinds.index(kinds[view]))
        """The views, those that are alike side by side: all that follows is in this order."""
        self.kernels = kernels = [kernels[view] for view in self.order]
        plain = [not kernel.sketches for kernel in kernels]
        self.sketched = [view for view, is_plain in enumerate(plain) if not is_plain]
        layouts = [kernel.layout for kernel in kernels]
        self.kind = np.array([layout.form | layout.sizes << 16 for layout in layouts], np.int64)
        self.front_bytes = np.array([layout.front_bytes for layout in layouts], np.int64)
        both = list(zip(plain, layouts, strict=True))
        self.words = np.array([layout.stored.itemsize // 8 if p else 0 for p, layout in both], np.int64)
        self.parts = np.array([layout.sizes if p else 0 for p, layout in both], np.int64)
        windows = [kernel.windows if p else () for p, kernel in zip(plain, kernels, strict=True)]
        self.windows = np.array(list(map(len, windows)), np.int64)
        self.resolution = np.array([window.resolution for own in windows for window in own], np.int64)
        self.tiles = np.array([window.tiles for own in windows for window in own], np.uint64)
        self.size_us = np.array(
            [kernel.sizes[window.resolution] for kernel, own in zip(kernels, windows, strict=True) for window in own],
            np.int64,
        )
        firsts = [view for view in range(len(kernels)) if not view or kernels[view].alike != kernels[view - 1].alike]
        self.alike_bounds = [*firsts, len(kernels)]
        self.alike = list(pairwise(self.alike_bounds))
        """From which to which view they are alike."""
        self._shapes: dict[tuple[tuple[int, ...], tuple[int, ...]], _FieldArrays] = {}

    def shape(self, numbers: tuple[int, ...], keys: tuple[int, ...]) -> _FieldArrays:
        """What holds of every look-up that found so many fields of each key, and asked for so many keys of each view.

        Small look-ups are much alike, large ones never: what is known of small ones is kept.
        """
        found = self._shapes.get((numbers, keys))
        if found is None:
            found = _shape(self, numbers, keys)
            if len(numbers) <= _SMALL:
                if len(self._shapes) >= _SHAPES:
                    self._shapes.clear()
                self._shapes[numbers, keys] = found
        return found

    def read(self, packed: Sequence[Sequence[Sequence[bytes]]]) -> FieldsRead:
        """Read what a store answered: of each view and key its source partitions and fields, in turn.

        Raises CodecError for bytes of another format or length.
        """
        return FieldsRead(self, [packed[view] for view in self.order])

    def asked(self, found: Sequence[T]) -> list[T]:
        """What was found of each view, in the order that they were asked for."""
        asked = list(found)
        for view, of_view in zip(self.order, found, strict=True):
            asked[view] = of_view
        return asked


@dataclass(frozen=True)
class _FieldArrays:
    """Arrays with one item a field (``key`` to ``words``), a part, a run and a key; bounds have one more.

    The fields of a key are in the order of their source partitions, and runs in that of their groups: one a key and
    window.
    """

    key: np.ndarray
    kind: np.ndarray
    front_bytes: np.ndarray
    words: np.ndarray
    part_bounds: np.ndarray
    part_field: np.ndarray
    part_half: np.ndarray
    run: np.ndarray
    run_group: np.ndarray
    run_field: np.ndarray
    run_part: np.ndarray
    run_first_part: np.ndarray
    run_front: np.ndarray
    run_words: np.ndarray
    run_tiles: np.ndarray
    run_size_us: np.ndarray
    is_mixed: bool
    numbers: np.ndarray
    known: np.ndarray
    known_begin: np.ndarray
    group_edges: np.ndarray
    group_bounds: Sequence[int]
    rows: Sequence[range]
    field_bounds: Sequence[int]
    key_bounds: Sequence[int]
    views_found: Sequence[int]
    views_begin: np.ndarray


def _shape(of: FieldReader, of_keys: tuple[int, ...], keys: tuple[int, ...]) -> _FieldArrays:
    numbers, key_view = np.array(of_keys, np.int64), _repeated(keys)
    key, before = np.repeat(np.arange(len(numbers)), numbers), _bounds(numbers)
    view, key_bounds = key_view[key], _bounds(np.array(keys, np.int64))
    field_bounds, groups = before[key_bounds], _bounds(of.windows[key_view])
    part_bounds = _bounds(of.parts[view])
    part_field = np.repeat(np.arange(len(view)), of.parts[view])
    run_field = np.repeat(np.arange(len(view)), of.windows[view])
    run_place = np.arange(len(run_field)) - _bounds(of.windows[view])[run_field]
    run_group = groups[key[run_field]] + run_place
    order = np.lexsort((run_field, run_group))
    run_field, run_group = run_field[order], run_group[order]
    window = _bounds(of.windows)[view[run_field]] + run_place[order]
    found, known = np.flatnonzero(np.diff(field_bounds)), np.flatnonzero(numbers)
    edges = groups[key_bounds[of.alike_bounds]]
    return _FieldArrays(
        key=key,
        kind=of.kind[view],
        front_bytes=of.front_bytes[view],
        words=of.words[view],
        part_bounds=part_bounds,
        part_field=part_field,
        part_half=2 * _HEADER_WORDS + np.arange(len(part_field)) - part_bounds[part_field],
        run=np.arange(len(run_field)),
        run_group=run_group,
        run_field=run_field,
        run_part=part_bounds[run_field] + of.resolution[window],
        run_first_part=part_bounds[run_field],
        run_front=of.front_bytes[view[run_field]] // 8,
        run_words=of.words[view[run_field]],
        run_tiles=of.tiles[window],
        run_size_us=of.size_us[window],
        is_mixed=bool((numbers > 1).any()),
        numbers=numbers,
        known=known,
        known_begin=before[known],
        group_edges=edges,
        group_bounds=edges.tolist(),
        rows=[range(begin - first, end - first) for begin, end, first in _within(key_bounds.tolist(), of.alike)],
        field_bounds=field_bounds.tolist(),
        key_bounds=key_bounds.tolist(),
        views_found=found.tolist(),
        views_begin=field_bounds[found],
    )


def _within(bounds: Sequence[int], alike: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int, int]]:
    """From which to which key each view goes, and where the first of those that are alike begins."""
    for view, end in alike:
        yield from ((*of_view, bounds[view]) for of_view in pairwise(bounds[view : end + 1]))


@lru_cache(maxsize=256)
def _order(names: frozenset[bytes]) -> Mapping[bytes, int]:
    return {name: place for place, name in enumerate(sorted(names, key=SourcePartition.from_field))}


def _repeated(numbers: Sequence[int]) -> np.ndarray:
    """Each place so many times."""
    return np.repeat(np.arange(len(numbers)), np.array(numbers, np.int64))


def _bounds(numbers: np.ndarray) -> np.ndarray:
    """Where each of so many begins, and the end."""
    bounds = np.zeros(len(numbers) + 1, np.int64)
    numbers.cumsum(out=bounds[1:])
    return bounds


class FieldOffsets(NamedTuple):
    """The next offsets of all fields, and how to find those of a view's key."""

    names: Sequence[bytes]
    next_offsets: np.ndarray
    numbers: np.ndarray
    first: int

    def of_key(self, key: int) -> Iterable[tuple[bytes, int]]:
        """The source partitions by name, each with the next offset."""
        begin = int(self.numbers[: self.first + key].sum())
        end = begin + int(self.numbers[self.first + key])
        return zip(self.names[begin:end], self.next_offsets[begin:end].tolist(), strict=True)


class FieldsRead:
    """What one look-up found. Keys are counted through all views."""

    def __init__(self, of: FieldReader, packed: Sequence[Sequence[Sequence[bytes]]]) -> None:
        self._of = of
        self._keys = [*chain.from_iterable(packed)]
        flat = [*chain.from_iterable(self._keys)]
        self._names, self._fields = flat[::2], flat[1::2]
        self._shape = of.shape(tuple([len(of_key) >> 1 for of_key in self._keys]), tuple(map(len, packed)))
        self._order = self._ordered() if self._shape.is_mixed else None
        self._decode()

    # -- headers ----------------------------------------------------------------------------------------------------

    def _ordered(self) -> np.ndarray:
        """The fields, those of a key in the order of their source partitions."""
        order = _order(frozenset(self._names))
        return np.lexsort((np.array([order[name] for name in self._names]), self._shape.key))

    def _decode(self) -> None:
        shape, fields = self._shape, self._cut()
        lengths = np.fromiter(map(len, fields), np.int64, len(fields))
        rest = lengths - shape.front_bytes
        blob = b"".join(fields)
        sound = not np.count_nonzero(rest & _NO_WORDS)  # any() and all() are Python's
        if sound:
            begins = (lengths.cumsum() - lengths) >> 3
            self._words = np.frombuffer(blob, "<i8")
            self._heads = self._words.take(begins + _HEADER)
            if self._order is not None:
                begins, rest = begins[self._order], rest[self._order]
            self._begins = begins
            halves = self._words.view("<u4")
            self._counts = halves.take(2 * begins[shape.part_field] + shape.part_half).astype(np.int64)
            self._before = _bounds(self._counts)
            tiles = self._before[shape.part_bounds]
            whole = shape.words * (tiles[1:] - tiles[:-1]) == rest >> 3
            sound = np.count_nonzero(whole & (self._heads[0] & _KIND == shape.kind)) == len(fields)
        if not sound:  # tells what is wrong
            for view, (begin, end) in enumerate(pairwise(shape.field_bounds)):
                for data in self._fields[begin:end]:
                    unpack(data, self._of.kernels[view].layout)

    def _cut(self) -> Sequence[bytes]:
        """The fields, without the tiles of views with sketches: these are no whole words."""
        if not self._of.sketched:
            return self._fields
        cut = list(self._fields)
        for view in self._of.sketched:
            own = slice(*self._shape.field_bounds[view : view + 2])
            front = self._of.kernels[view].layout.front_bytes
            cut[own] = [data[:front] for data in cut[own]]
        return cut

    @property
    def clocks(self) -> list[int]:
        """Of each view the largest partition clock that a field tells."""
        clocks = [NO_CLOCK] * len(self._of.kernels)
        if self._shape.views_found:
            largest = np.maximum.reduceat(self._heads[2], self._shape.views_begin).tolist()
            for view, clock in zip(self._shape.views_found, largest, strict=True):
                clocks[view] = clock
        return self._of.asked(clocks)

    @property
    def offsets(self) -> list[FieldOffsets]:
        """Of each view the next offsets that its fields tell."""
        names, next_offsets, numbers = self._names, self._heads[1], self._shape.numbers
        return self._of.asked(
            [FieldOffsets(names, next_offsets, numbers, begin) for begin in self._shape.key_bounds[:-1]]
        )

    def ages_us(self, at_us: int) -> list[np.ndarray]:
        """Of each view and key the microseconds since its newest event, -1 where none is known."""
        shape = self._shape
        ages = np.full(len(shape.numbers), -1)
        if len(shape.known):
            ages[shape.known] = np.maximum(at_us - np.maximum.reduceat(self._heads[3], shape.known_begin), 0)
        return self._of.asked([ages[begin:end] for begin, end in pairwise(shape.key_bounds)])

    # -- values -----------------------------------------------------------------------------------------------------

    def values(self, at_us: int) -> list[ValueColumns]:
        """Of each view the values of its keys at t, one Values a column of its kernel."""
        shape = self._shape
        place, group, rank = self._inside(at_us)
        begins = np.empty(len(group), bool)
        begins[:1] = True
        np.not_equal(group[1:], group[:-1], out=begins[1:])
        starts = begins.nonzero()[0]
        edges = group.searchsorted(shape.group_edges)
        bounds, run_bounds = edges.tolist(), starts.searchsorted(edges).tolist()
        filled, at = group[starts], np.array([at_us])
        found: list[ValueColumns] = []
        for number, (view, end) in enumerate(self._of.alike):
            kernel = self._of.kernels[view]
            if kernel.sketches:
                found += [self._of_sketches(own, at_us) for own in range(view, end)]
                continue
            own, runs = slice(*bounds[number : number + 2]), slice(*run_bounds[number : number + 2])
            blocks = kernel.evaluate_words(
                self._words.take(place[own] + kernel.words),
                starts[runs] - bounds[number],
                rank[own] if shape.is_mixed else None,
                filled[runs] - shape.group_bounds[number],
                shape.key_bounds[end] - shape.key_bounds[view],
                at,
            )
            shared = [ValueBlock(*values) for values in blocks]
            found += [ValueColumns(shared, len(kernel.windows), rows) for rows in shape.rows[view:end]]
        return self._of.asked(found)

    def _inside(self, at_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each tile that t sees its place, its group and, of tiles of one group, the order of their partitions."""
        shape, before = self._shape, self._before
        step, counts = shape.run_words, self._counts[shape.run_part]
        place = self._begins[shape.run_field] + shape.run_front
        place += step * (before[shape.run_part] - before[shape.run_first_part] - counts.cumsum() + counts)
        run = shape.run.repeat(counts)
        place = place[run] + step[run] * np.arange(len(run))
        age = (at_us // shape.run_size_us)[run] - self._words[place]
        inside = (age.view(np.uint64) < shape.run_tiles[run]).nonzero()[0]  # what is newer than t has a huge age
        if len(inside) < len(run):
            run, place = run[inside], place[inside]
        return place, shape.run_group[run], run

    def _of_sketches(self, view: int, at_us: int) -> ValueColumns:
        """Their entries are of no fixed width: field by field."""
        kernel, (begin, end) = self._of.kernels[view], self._shape.field_bounds[view : view + 2]
        first, stop = self._shape.key_bounds[view : view + 2]
        places = range(begin, end) if self._order is None else self._order[begin:end].tolist()
        fields = [unpack(self._fields[place], kernel.layout)[1] for place in places]
        key, rank = self._shape.key[begin:end] - first, np.arange(end - begin)
        sizes = range(len(kernel.sizes))
        counts = [[len(tiles[size]) for tiles in fields] for size in sizes]
        found = kernel.evaluate(
            [kernel.join([tiles[size] for tiles in fields]) for size in sizes],
            [np.repeat(key, number) for number in counts],
            [np.repeat(rank, number) for number in counts],
            np.full(stop - first, at_us),
        )
        return ValueColumns([ValueBlock(*values) for values in found], 1, range(stop - first))
