"""The plan of a look-up: the places of its tiles in the bytes of its fields.

Look-ups of the same shape share one plan.

A look-up reads keys of views. The store has one field for each source partition of a key. A field has a header and, for
each tile size of the view, one *part*: the tiles of that size. A *run* is a part as one window reads it::

    view      shop (tiles of 1m and 1h, windows 10m, 1h and 6h)
    key       a                                             b
    field     partition 0            partition 1            partition 0
    part      1m     1h              1m     1h              1m     1h
    run       10m    1h 6h           10m    1h 6h           10m    1h 6h

The runs of one key and one window, over all fields of the key, are one *group*: their tiles are merged to one value.
Keys, fields, parts, runs and groups are counted through all views of the look-up. Names ``…_bounds`` and ``…_begin``
say where the items of each owner begin; bounds have the end too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.features.kernel.tile_kernel import TileKernel
    from headrace.features.kernel.window_tiles import WindowTiles

HEADER_WORDS = 4
"""The words of eight bytes in a field's header."""


class ViewArrays(NamedTuple):
    """One item for each view. ``kind`` is the first word of its fields: their format and number of tile sizes.

    ``words`` is the size of a stored tile in words; it and the numbers of parts and windows are 0 for a view that is
    not plain, which is read field by field.
    """

    kind: np.ndarray
    front_bytes: np.ndarray
    words: np.ndarray
    parts: np.ndarray
    windows: np.ndarray

    @staticmethod
    def from_kernels(kernels: Sequence[TileKernel]) -> ViewArrays:
        """The arrays of some views, in their order."""
        layouts = [(kernel.layout, kernel.is_plain) for kernel in kernels]
        return ViewArrays(
            kind=np.array([layout.form | layout.sizes << 16 for layout, _ in layouts], np.int64),
            front_bytes=np.array([layout.front_bytes for layout, _ in layouts], np.int64),
            words=np.array([layout.stored.itemsize // 8 if plain else 0 for layout, plain in layouts], np.int64),
            parts=np.array([layout.sizes if plain else 0 for layout, plain in layouts], np.int64),
            windows=np.array([len(kernel.windows) if kernel.is_plain else 0 for kernel in kernels], np.int64),
        )


class WindowArrays(NamedTuple):
    """One item for each window of each plain view: its part, its number of tiles, and their size.

    ``lag_us`` is the time between the end of the window and now. ``windows`` are the windows themselves.
    """

    resolution: np.ndarray
    tiles: np.ndarray
    size_us: np.ndarray
    lag_us: np.ndarray
    windows: Sequence[WindowTiles]

    @staticmethod
    def from_kernels(kernels: Sequence[TileKernel]) -> WindowArrays:
        """The arrays of some views' windows, in the order of the views."""
        windows = [(kernel, window) for kernel in kernels if kernel.is_plain for window in kernel.windows]
        return WindowArrays(
            resolution=np.array([window.resolution for _, window in windows], np.int64),
            tiles=np.array([window.tiles for _, window in windows], np.uint64),
            size_us=np.array([kernel.sizes[window.resolution] for kernel, window in windows], np.int64),
            lag_us=np.array([window.lag * window.size_us for _, window in windows], np.int64),
            windows=[window for _, window in windows],
        )


class KeyArrays(NamedTuple):
    """``fields`` has the number of fields of each key.

    ``known`` are the keys that have a field, and ``known_begin`` the first field of each of these. ``bounds``: the
    first key of each view.
    """

    fields: np.ndarray
    known: np.ndarray
    known_begin: np.ndarray
    bounds: Sequence[int]


class FieldArrays(NamedTuple):
    """One item for each field; the fields of one key are in the order of their source partitions.

    ``part_bounds``: the first part of each field. ``view_bounds``: the first field of each view.
    """

    key: np.ndarray
    kind: np.ndarray
    front_bytes: np.ndarray
    words: np.ndarray
    part_bounds: np.ndarray
    view_bounds: Sequence[int]


class PartArrays(NamedTuple):
    """One item for each part: its field, and the half word of the field in which its number of tiles stands."""

    field: np.ndarray
    half_word: np.ndarray


class RunArrays(NamedTuple):
    """One item for each run, in the order of the groups: where its tiles lie, and which of them its window reads.

    ``first_part`` is the first part of its field, and ``front`` the number of words before that part. ``words`` is the
    size of a tile in words. ``lag_us`` is one number if no window has a lag. ``calendar`` has the windows and the run's
    place among them, if one of them is of a calendar.
    """

    number: np.ndarray
    group: np.ndarray
    field: np.ndarray
    part: np.ndarray
    first_part: np.ndarray
    front: np.ndarray
    words: np.ndarray
    tiles: np.ndarray
    size_us: np.ndarray
    lag_us: np.ndarray | int
    calendar: tuple[Sequence[WindowTiles], np.ndarray] | None


class GroupArrays(NamedTuple):
    """The groups of views that are alike, which one kernel evaluates together.

    ``edges`` and ``bounds``, the same as an array and as a list, are the first group of each such set of views.
    ``rows`` are the rows of each view in the result for its set.
    """

    edges: np.ndarray
    bounds: Sequence[int]
    rows: Sequence[range]


class FoundViews(NamedTuple):
    """The views of which a field was found, and the first field of each."""

    views: Sequence[int]
    begin: np.ndarray


@dataclass(frozen=True)
class ReadPlan:
    """The part of reading a look-up that depends only on its numbers of keys and fields.

    ``is_mixed``: some key has several fields, so that the fields of a key have to be sorted.
    """

    keys: KeyArrays
    fields: FieldArrays
    parts: PartArrays
    runs: RunArrays
    groups: GroupArrays
    found: FoundViews
    is_mixed: bool


class ReadPlanner:
    """Makes the plans for look-ups of some views. ``alike_bounds`` says which neighbours have the same kernel."""

    def __init__(self, kernels: Sequence[TileKernel], alike_bounds: Sequence[int]) -> None:
        self._views, self._windows = ViewArrays.from_kernels(kernels), WindowArrays.from_kernels(kernels)
        self._alike_bounds = alike_bounds

    def plan(self, fields_of_keys: Sequence[int], keys_of_views: Sequence[int]) -> ReadPlan:
        """Return the plan of a look-up: the number of fields of each key, and the number of keys of each view."""
        fields_of_key = np.array(fields_of_keys, np.int64)
        view_of_key = np.repeat(np.arange(len(keys_of_views)), np.array(keys_of_views, np.int64))
        key_bounds, first_field = bounds_of(np.array(keys_of_views, np.int64)), bounds_of(fields_of_key)
        key = np.repeat(np.arange(len(fields_of_key)), fields_of_key)
        view, first_group = view_of_key[key], bounds_of(self._views.windows[view_of_key])
        field_bounds = first_field[key_bounds]
        part_bounds = bounds_of(self._views.parts[view])
        known, found = np.flatnonzero(fields_of_key), np.flatnonzero(np.diff(field_bounds))
        return ReadPlan(
            keys=KeyArrays(fields_of_key, known, first_field[known], key_bounds.tolist()),
            fields=self._fields(key, view, part_bounds, field_bounds.tolist()),
            parts=self._parts(view, part_bounds),
            runs=self._runs(view, part_bounds, first_group[key]),
            groups=self._groups(first_group, key_bounds),
            found=FoundViews(found.tolist(), field_bounds[found]),
            is_mixed=bool((fields_of_key > 1).any()),
        )

    def _fields(
        self, key: np.ndarray, view: np.ndarray, part_bounds: np.ndarray, view_bounds: Sequence[int]
    ) -> FieldArrays:
        of = self._views
        return FieldArrays(key, of.kind[view], of.front_bytes[view], of.words[view], part_bounds, view_bounds)

    def _parts(self, view: np.ndarray, part_bounds: np.ndarray) -> PartArrays:
        field = np.repeat(np.arange(len(view)), self._views.parts[view])
        return PartArrays(field, 2 * HEADER_WORDS + np.arange(len(field)) - part_bounds[field])

    def _runs(self, view: np.ndarray, part_bounds: np.ndarray, first_group: np.ndarray) -> RunArrays:
        """``view`` and ``first_group`` have one item for each field."""
        windows = self._views.windows[view]
        field = np.repeat(np.arange(len(view)), windows)
        place = np.arange(len(field)) - bounds_of(windows)[field]  # of the run's window in its view
        group = first_group[field] + place
        order = np.lexsort((field, group))
        field, group = field[order], group[order]
        window = bounds_of(self._views.windows)[view[field]] + place[order]
        return RunArrays(
            number=np.arange(len(field)),
            group=group,
            field=field,
            part=part_bounds[field] + self._windows.resolution[window],
            first_part=part_bounds[field],
            front=self._views.front_bytes[view[field]] // 8,
            words=self._views.words[view[field]],
            tiles=self._windows.tiles[window],
            size_us=self._windows.size_us[window],
            lag_us=self._windows.lag_us[window] if self._windows.lag_us.any() else 0,
            calendar=(self._windows.windows, window) if any(each.periods for each in self._windows.windows) else None,
        )

    def _groups(self, first_group: np.ndarray, key_bounds: np.ndarray) -> GroupArrays:
        edges = first_group[key_bounds[self._alike_bounds]]
        rows = [range(begin - first, end - first) for begin, end, first in self._keys_of_views(key_bounds.tolist())]
        return GroupArrays(edges, edges.tolist(), rows)

    def _keys_of_views(self, key_bounds: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """Yield the first and the last key of each view, and the first key of the views that are alike with it."""
        for view, end in pairwise(self._alike_bounds):
            yield from ((*of_view, key_bounds[view]) for of_view in pairwise(key_bounds[view : end + 1]))


def bounds_of(numbers: np.ndarray) -> np.ndarray:
    """Return where the items of each owner begin, if each has that many, and the end."""
    bounds = np.zeros(len(numbers) + 1, np.int64)
    numbers.cumsum(out=bounds[1:])
    return bounds
