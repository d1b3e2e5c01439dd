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

from headrace.features.field import unpack
from headrace.features.online import NO_CLOCK, Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.features.kernel import Kernel
    from headrace.features.states import Values

T = TypeVar("T")
_HEADER_WORDS = 4
_KIND = 0xFFFF00FF
"""Of the first word of a field: its format and the number of its tile sizes."""
_SHAPES = 256


class Reading:
    """How the fields of some views are read: what of it is the same for every look-up."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        kinds = [kernel.alike for kernel in kernels]
        self.order = sorted(range(len(kernels)), key=lambda view: kinds.index(kinds[view]))
        """The views, those that are alike side by side: all that follows is in this order."""
        self.kernels = kernels = [kernels[view] for view in self.order]
        plain = [not kernel.sketches for kernel in kernels]
        self.sketched = [view for view, is_plain in enumerate(plain) if not is_plain]
        layouts = [kernel.layout for kernel in kernels]
        self.kind = np.array([layout.form | layout.sizes << 16 for layout in layouts], np.int64)
        self.front = np.array([layout.front_bytes // 8 for layout in layouts], np.int64)
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
        self.alike = list(pairwise([*firsts, len(kernels)]))
        """From which to which view they are alike."""
        self._shapes: dict[tuple[tuple[int, ...], tuple[int, ...]], _Shape] = {}

    def shape(self, fields: tuple[int, ...], keys: tuple[int, ...]) -> _Shape:
        """What holds of every look-up that found so many fields of so many keys in each view."""
        found = self._shapes.get((fields, keys))
        if found is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            found = self._shapes[fields, keys] = _shape(self, fields, keys)
        return found

    def read(self, packed: Sequence[Sequence[Sequence[bytes]]]) -> Read:
        """Read what a store answered: of each view and key its source partitions and fields, in turn.

        Raises CodecError for bytes of another format or length.
        """
        return Read(self, [packed[view] for view in self.order])

    def asked(self, found: Sequence[T]) -> list[T]:
        """What was found of each view, in the order that they were asked for."""
        asked = list(found)
        for view, of_view in zip(self.order, found, strict=True):
            asked[view] = of_view
        return asked


@dataclass(frozen=True)
class _Shape:
    """Arrays with one item a field (``view`` to ``words``), a part, a run and a key; bounds have one more."""

    view: np.ndarray
    kind: np.ndarray
    front: np.ndarray
    words: np.ndarray
    part_bounds: np.ndarray
    part_field: np.ndarray
    part_half: np.ndarray
    run_field: np.ndarray
    run_window: np.ndarray
    run_part: np.ndarray
    run_place: np.ndarray
    run_front: np.ndarray
    run_words: np.ndarray
    run_tiles: np.ndarray
    key_group: np.ndarray
    group_bounds: np.ndarray
    field_bounds: Sequence[int]
    key_bounds: Sequence[int]
    views_found: Sequence[int]
    views_begin: np.ndarray


def _shape(of: Reading, fields: tuple[int, ...], keys: tuple[int, ...]) -> _Shape:
    view = _repeated(fields)
    part_bounds = _bounds(of.parts[view])
    part_field = np.repeat(np.arange(len(view)), of.parts[view])
    run_field = np.repeat(np.arange(len(view)), of.windows[view])
    run_place = np.arange(len(run_field)) - _bounds(of.windows[view])[run_field]
    run_window = _bounds(of.windows)[view[run_field]] + run_place
    groups = _bounds(of.windows[_repeated(keys)])
    key_bounds, field_bounds = (_bounds(np.array(numbers, np.int64)) for numbers in (keys, fields))
    found = np.flatnonzero(fields)
    return _Shape(
        view,
        of.kind[view],
        of.front[view],
        of.words[view],
        part_bounds,
        part_field,
        2 * _HEADER_WORDS + np.arange(len(part_field)) - part_bounds[part_field],
        run_field,
        run_window,
        part_bounds[run_field] + of.resolution[run_window],
        run_place,
        of.front[view[run_field]],
        of.words[view[run_field]],
        of.tiles[run_window],
        groups[:-1],
        groups[key_bounds],
        field_bounds.tolist(),
        key_bounds.tolist(),
        found.tolist(),
        field_bounds[found],
    )


@lru_cache(maxsize=256)
def _order(names: frozenset[bytes]) -> Mapping[bytes, int]:
    return {name: place for place, name in enumerate(sorted(names, key=Source.from_field))}


def _repeated(numbers: Sequence[int]) -> np.ndarray:
    """Each place so many times."""
    return np.repeat(np.arange(len(numbers)), np.array(numbers, np.int64))


def _bounds(numbers: np.ndarray) -> np.ndarray:
    """Where each of so many begins, and the end."""
    bounds = np.zeros(len(numbers) + 1, np.int64)
    numbers.cumsum(out=bounds[1:])
    return bounds


class Offsets(NamedTuple):
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


class Read:
    """What one look-up found. Keys are counted through all views."""

    def __init__(self, of: Reading, packed: Sequence[Sequence[Sequence[bytes]]]) -> None:
        self._of = of
        numbers = [len(of_key) >> 1 for of_view in packed for of_key in of_view]
        flat = [*chain.from_iterable(chain.from_iterable(packed))]
        self._names, self._fields = flat[::2], flat[1::2]
        keys = tuple(map(len, packed))
        self._shape = of.shape(tuple(sum(map(len, of_view)) >> 1 for of_view in packed), keys)
        self._numbers = np.array(numbers, np.int64)
        self._is_mixed = max(numbers, default=0) > 1
        self._decode()
        self._key = np.repeat(np.arange(len(numbers)), self._numbers)
        self._newest()
        self._rank = self._ranks()

    # -- headers ----------------------------------------------------------------------------------------------------

    def _decode(self) -> None:
        shape, fields = self._shape, self._cut()
        lengths = np.fromiter(map(len, fields), np.int64, len(fields))
        blob = b"".join(fields)
        sound = not (lengths & 7).any() and bool((lengths >= 8 * shape.front).all())
        if sound:
            self._begins = (lengths.cumsum() - lengths) >> 3
            self._words = np.frombuffer(blob, "<i8")
            self._heads = self._words.take(self._begins + np.arange(_HEADER_WORDS)[:, None])
            halves = self._words.view("<u4")
            self._counts = halves.take(2 * self._begins[shape.part_field] + shape.part_half).astype(np.int64)
            self._before = _bounds(self._counts)
            tiles = self._before[shape.part_bounds]
            whole = shape.front + shape.words * (tiles[1:] - tiles[:-1]) == lengths >> 3
            sound = bool((whole & (self._heads[0] & _KIND == shape.kind)).all())
        if not sound:  # tells what is wrong
            for view, data in zip(shape.view.tolist(), self._fields, strict=True):
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

    def _newest(self) -> None:
        self._is_known = self._numbers > 0
        self._last = np.zeros(len(self._numbers), np.int64)
        if len(self._names):
            firsts = (self._numbers.cumsum() - self._numbers)[self._is_known]
            self._last[self._is_known] = np.maximum.reduceat(self._heads[3], firsts)

    def _ranks(self) -> np.ndarray:
        """Of each field the place of its source partition among all; nothing in particular where no key has several."""
        if not self._is_mixed:
            return self._key
        order = _order(frozenset(self._names))
        return np.array([order[name] for name in self._names], np.int64)

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
    def offsets(self) -> list[Offsets]:
        """Of each view the next offsets that its fields tell."""
        begins = self._shape.key_bounds[:-1]
        return self._of.asked([Offsets(self._names, self._heads[1], self._numbers, begin) for begin in begins])

    def ages_us(self, at_us: int) -> list[np.ndarray]:
        """Of each view and key the microseconds since its newest event, -1 where none is known."""
        ages = np.where(self._is_known, np.maximum(at_us - self._last, 0), -1)
        bounds = self._shape.key_bounds
        return self._of.asked([ages[begin:end] for begin, end in pairwise(bounds)])

    # -- values -----------------------------------------------------------------------------------------------------

    def values(self, at_us: int) -> list[list[Values]]:
        """Of each view the values of its keys at t, one Values a column of its kernel."""
        shape = self._shape
        place, group, rank = self._inside(at_us)
        begins = np.ones(len(group), bool)
        np.not_equal(group[1:], group[:-1], out=begins[1:])
        starts = begins.nonzero()[0]
        bounds = group.searchsorted(shape.group_bounds)
        run_bounds = starts.searchsorted(bounds).tolist()
        bounds, filled, at = bounds.tolist(), group[starts], np.array([at_us])
        found: list[list[Values]] = []
        for view, end in self._of.alike:
            kernel = self._of.kernels[view]
            if kernel.sketches:
                found += [self._of_sketches(own, at_us) for own in range(view, end)]
                continue
            own, runs = slice(bounds[view], bounds[end]), slice(run_bounds[view], run_bounds[end])
            columns = kernel.evaluate_words(
                self._words.take(place[own] + kernel.words),
                starts[runs] - bounds[view],
                rank[own] if self._is_mixed else None,
                filled[runs] - shape.group_bounds[view],
                shape.key_bounds[end] - shape.key_bounds[view],
                at,
            )
            keys = [key - shape.key_bounds[view] for key in shape.key_bounds[view : end + 1]]
            for begin, stop in pairwise(keys):
                found.append([(values[begin:stop], present[begin:stop]) for values, present in columns])
        return self._of.asked(found)

    def _inside(self, at_us: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of each tile that t sees its place, its group (one a key and window, ascending) and its partition's rank."""
        shape = self._shape
        group = shape.key_group[self._key[shape.run_field]] + shape.run_place
        rank = self._rank[shape.run_field]
        counts = self._counts[shape.run_part]
        tiles_before = self._before[shape.run_part] - self._before[shape.part_bounds[shape.run_field]]
        place = self._begins[shape.run_field] + shape.run_front + shape.run_words * tiles_before
        newest = (at_us // self._of.size_us)[shape.run_window]
        step, tiles = shape.run_words, shape.run_tiles
        if self._is_mixed:
            order = np.lexsort((rank, group))
            counts, group, rank, place = counts[order], group[order], rank[order], place[order]
            newest, step, tiles = newest[order], step[order], tiles[order]
        run = np.arange(len(counts)).repeat(counts)
        place = (place - step * (counts.cumsum() - counts))[run] + step[run] * np.arange(len(run))
        age = newest[run] - self._words[place]
        inside = (age.view(np.uint64) < tiles[run]).nonzero()[0]  # what is newer than t has a huge age
        if len(inside) < len(run):
            run, place = run[inside], place[inside]
        return place, group[run], rank[run]

    def _of_sketches(self, view: int, at_us: int) -> list[Values]:
        """Their entries are of no fixed width: field by field."""
        kernel, own = self._of.kernels[view], slice(*self._shape.field_bounds[view : view + 2])
        first, end = self._shape.key_bounds[view : view + 2]
        order = np.lexsort((self._rank[own], self._key[own]))
        fields = [unpack(self._fields[own][field], kernel.layout)[1] for field in order.tolist()]
        key, rank = self._key[own][order] - first, self._rank[own][order]
        sizes = range(len(kernel.sizes))
        counts = [[len(tiles[size]) for tiles in fields] for size in sizes]
        return kernel.evaluate(
            [kernel.join([tiles[size] for tiles in fields]) for size in sizes],
            [np.repeat(key, number) for number in counts],
            [np.repeat(rank, number) for number in counts],
            np.full(end - first, at_us),
        )
