"""The tile kernel: lift rows to partials, reduce and merge partials, finish them to values.

It is pure and vectorised. No other code computes values. A *partial* is one structured record of physical columns
``c0, c1, …``, with the entries of its sketches next to it if the view has any. A *tile* is a partial with its index
``k``. Live folding, look-ups, training sets, audits and rebuilds all lift, reduce, merge and finish the same records.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from headrace.bus.vector import dim_of
from headrace.features.definitions.decimals import places_of
from headrace.features.definitions.expression_kinds import is_decimal, kind, nullable
from headrace.features.kernel.component_states import state_of
from headrace.features.kernel.feature_parts import TypedValue
from headrace.features.kernel.field import FieldLayout
from headrace.features.kernel.outputs import EXACT_OF_DECIMALS, OutputColumn, compile_feature, finish, typed
from headrace.features.kernel.python_values import lists_of_owners
from headrace.features.kernel.sketched_tiles import SketchedTiles, entries_of, join, references, sketched
from headrace.features.kernel.sketches import Sketch, sketch_of
from headrace.features.kernel.states import NEVER, Component, State, UfuncState, Values
from headrace.features.kernel.window_tiles import WindowTiles

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import polars as pl

    from headrace.features.definitions.expression_tree import ExpressionTree
    from headrace.features.definitions.feature_spec import FeatureSpec
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.kernel.sketches import ValueSketch


class TileKernel:
    """Computes one view: from rows to partials, from partials to partials, and from partials to values."""

    def __init__(self, spec: ViewSpec) -> None:
        self.spec = spec
        self.version = spec.version
        self.sizes = tuple(sorted({window.tile_us for window in spec.windows}))
        self.windows = tuple(WindowTiles.from_spec(each, self.sizes.index(each.tile_us)) for each in spec.windows)
        self.columns = spec.columns
        self.dims = {name: dim for name, of in spec.column_kinds.items() if (dim := dim_of(of)) is not None}
        self.entity_keys = [(key.name, key.kind) for key in spec.entity.keys]
        self._compile()
        self.empty = self._empty()
        entries = tuple(sketch.dtype for sketch in self.sketches)
        self.layout = FieldLayout(self.tile, len(self.sizes), entries, has_rows=self.most_rows > 0)
        self.words = np.arange(1, len(self.tile.names or ()))[:, None]
        """The places of the columns of a tile without sketches after its k, in words of 8 bytes."""

    def _compile(self) -> None:
        self.components: list[Component] = []
        self.outputs: list[OutputColumn] = []
        for feature in self.spec.features:
            self.outputs += compile_feature(feature, self._shape(feature), self._component)
        if any(window.session for window in self.windows):
            self._session = [self._component(Component("time", op, "<i8")) for op in ("min", "max")]
        self._states: dict[int, tuple[list[str], State]] = {}
        self._sketches: dict[int, Sketch] = {}
        columns: list[tuple[str, str]] = []
        for index, component in enumerate(self.components):
            sketch = sketch_of(component)
            if sketch is not None:
                self._sketches[index] = sketch
                continue
            state = state_of(component)
            names = [f"c{len(columns) + place}" for place in range(len(state.columns))]
            columns += [(name, dtype) for name, (dtype, _) in zip(names, state.columns, strict=True)]
            self._states[index] = names, state
        self.sketches = tuple(self._sketches.values())
        columns += [(name, "<i8") for place in range(len(self.sketches)) for name in references(place)]
        self.tile = np.dtype([("k", "<i8"), *columns])

    def _component(self, component: Component) -> int:
        """The index of a component. Equal components of several features are kept once."""
        if component not in self.components:
            self.components.append(component)
        return self.components.index(component)

    def _shape(self, feature: FeatureSpec) -> TypedValue:
        first, *others = (self._typed(feature, tree) for part in feature.measured for tree in part.values)
        return replace(first, others=tuple(others))

    def _typed(self, feature: FeatureSpec, tree: ExpressionTree) -> TypedValue:
        value = self.spec.inlined(tree)
        takes_back = self.spec.takes_back
        if value is None:
            return TypedValue(value, "int", nullable=False, takes_back=takes_back)
        found = kind(value, self.spec.kinds)
        if is_decimal(found) and feature.aggregate not in EXACT_OF_DECIMALS:
            value, found = ["div", value, ["lit", 10.0 ** places_of(found)]], "float"
        return TypedValue(value, found, nullable(value, self.spec.nullable), takes_back=takes_back)

    def _empty(self) -> np.ndarray:
        empty = np.zeros(1, self.tile)
        empty["k"] = NEVER
        for names, state in self._states.values():
            for name, (_, identity) in zip(names, state.columns, strict=True):
                empty[name] = identity
        return sketched(empty, [np.zeros(0, s.dtype) for s in self.sketches]) if self.sketches else empty

    # -- rows to partials -------------------------------------------------------------------------------------------

    def keep(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the rows that this view folds: join keys present and the view's filter true."""
        return frame if self._filter is None else frame.filter(self._filter)

    @cached_property
    def _filter(self) -> pl.Expr | None:
        """The condition of a kept row; None if every row is kept."""
        import polars as pl  # noqa: PLC0415

        from headrace.features.kernel.expression_polars import to_polars  # noqa: PLC0415

        where, keys = self.spec.where, self.spec.key_names
        conditions = [pl.col(name).is_not_null() for name in keys if name in self.spec.nullable]
        if where is not None:
            conditions.append(to_polars(self.spec.inlined(where)))
        return pl.all_horizontal(conditions) if conditions else None

    def lift(self, frame: pl.DataFrame) -> np.ndarray:
        """Return one partial for each row, its ``k`` unset.

        The frame has the event's fields, ``__time`` (event time in us) and ``__row_offset``.
        """
        from headrace.features.kernel.lift import column_itself  # noqa: PLC0415

        partials = np.empty(frame.height, self.tile)
        worked_out = []
        for names, component, expressions in self._lift:
            plain = column_itself(component, frame)
            if plain is None:
                worked_out += [(name, part.alias(name)) for name, part in zip(names, expressions, strict=True)]
            else:
                partials[names[0]] = plain
        if worked_out:
            lifted = frame.select("__row_offset", *(part for _, part in worked_out))  # a literal alone is one row
            for name, _ in worked_out:
                partials[name] = lifted.get_column(name).to_numpy()
        if self.spec.takes_back:
            taken = (frame.get_column("__sign") < 0).to_numpy()
            partials[taken] = self.negated(partials[taken])
        return self._with_entries(partials, frame) if self.sketches else partials

    @cached_property
    def _lift(self) -> list[tuple[list[str], Component, list[pl.Expr]]]:
        """The physical columns of each state, its component, and the expression of each column."""
        from headrace.features.kernel.lift import lift_state  # noqa: PLC0415

        return [(names, self._inlined[i], lift_state(self._inlined[i])) for i, (names, _) in self._states.items()]

    @cached_property
    def _inlined(self) -> list[Component]:
        """The components, with derived columns replaced in their filters too."""
        return [replace(component, where=self.spec.inlined(component.where)) for component in self.components]

    def _with_entries(self, partials: np.ndarray, frame: pl.DataFrame) -> np.ndarray:
        """The partials with the entries of each row and sketch, counted if the row counts."""
        from headrace.features.kernel.lift import lift_sketch  # noqa: PLC0415

        entries = []
        for place, (index, sketch) in enumerate(self._sketches.items()):
            start, count = references(place)
            partials[start], partials[count], lifted = lift_sketch(self._inlined[index], sketch, frame)
            entries.append(lifted)
        return sketched(partials, entries)

    # -- partials to partials ---------------------------------------------------------------------------------------

    def join(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Return the tiles of all parts, one after the other."""
        parts = [self.empty[:0], *parts]
        return join(parts) if self.sketches else np.concatenate(parts)

    def reduce(self, partials: np.ndarray, starts: np.ndarray, rank: np.ndarray | None = None) -> np.ndarray:
        """Merge runs of partials. ``starts`` are the runs' first indexes; no run is empty. ``k`` is the first one's.

        ``rank`` orders the source partitions if runs mix them: it breaks ties between equal event times.
        """
        merged = partials.take(starts)
        for names, state in self._states.values():
            self._put(merged, names, state.reduce([partials[name] for name in names], starts, rank))
        return self._reduce_sketches(merged, partials, starts, rank) if self.sketches else merged

    def _reduce_sketches(
        self, merged: np.ndarray, partials: np.ndarray, starts: np.ndarray, rank: np.ndarray | None
    ) -> np.ndarray:
        """The merged records, with the entries that are left in each run."""
        run = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(partials)))
        tie = np.zeros(len(partials), np.int64) if rank is None else rank
        left = []
        for place, sketch in enumerate(self.sketches):
            entries, count = entries_of(partials, place)
            entries, owner = sketch.collapse(entries, np.repeat(run, count), np.repeat(tie, count))
            number = np.bincount(owner, minlength=len(starts))
            self._put(merged, references(place), [np.cumsum(number) - number, number])
            left.append(entries)
        return sketched(merged, left)

    def merge(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Merge elementwise. Both sides are of one source partition; ``k`` is the right side's."""
        if not len(right):
            return right
        if self.sketches:
            pairs = np.arange(2 * len(left)).reshape(2, -1).T.reshape(-1)
            merged = self.reduce(self.join([left, right])[pairs], np.arange(0, 2 * len(left), 2))
            merged["k"] = right["k"]
            return merged
        merged = right.copy()
        for names, state in self._states.values():
            columns = ([side[name] for name in names] for side in (left, right))
            self._put(merged, names, state.merge(*columns))
        return merged

    @staticmethod
    def _put(tiles: np.ndarray, names: Sequence[str], columns: Sequence[np.ndarray]) -> None:
        for name, column in zip(names, columns, strict=True):
            tiles[name] = column

    @cached_property
    def reaches(self) -> list[int]:
        """For each tile size, the largest number of tiles from the oldest one of a window to the newest one."""
        of = [[window.reach for window in self.windows if window.resolution == r] for r in range(len(self.sizes))]
        return list(map(max, of))

    @cached_property
    def most_rows(self) -> int:
        """The number of the newest rows that are kept one by one; 0 if no window is of them."""
        return max(window.rows for window in self.windows)

    @cached_property
    def is_plain(self) -> bool:
        """True if the time alone says which tiles a window has, and tiles have a fixed size."""
        return not self.sketches and not any(window.rows or window.session for window in self.windows)

    @cached_property
    def is_additive(self) -> bool:
        """True if every record adds its own part to a tile, so that one can be taken out again.

        The newest rows and sessions are not: another row takes the place of one that is out.
        """
        sums = all(isinstance(state, UfuncState) and state.ufunc is np.add for _, state in self._states.values())
        return sums and self.is_plain

    def negated(self, partials: np.ndarray) -> np.ndarray:
        """Return partials that take the given ones out again when both are merged. The view is additive."""
        negative = partials.copy()
        for names, _ in self._states.values():
            for name in names:
                negative[name] = -partials[name]
        return negative

    # -- partials to values -----------------------------------------------------------------------------------------

    def evaluate(
        self, tiles: Sequence[np.ndarray], query: Sequence[np.ndarray], rank: Sequence[np.ndarray], at_us: np.ndarray
    ) -> list[Values]:
        """Return the values of ``len(at_us)`` queries: one Values for each column of :attr:`columns`.

        ``tiles``, ``query`` and ``rank`` have one array for each tile size: the tiles, the query of each tile (sorted)
        and the rank of its source partition. This is ``value(V, t)``: the caller chose the tiles by V, and t selects
        among them here.
        """
        by_window: list[list[Values]] = []
        for window in self.windows:
            of, which, of_rank = tiles[window.resolution], query[window.resolution], rank[window.resolution]
            inside = self.inside(window, of, which, of_rank, at_us)
            merged = self._merge_queries(of.take(inside), which.take(inside), of_rank.take(inside), len(at_us))
            by_window.append(self.finish(merged, at_us))
        return [by_window[w][f] for f in range(len(self.outputs)) for w in range(len(self.windows))]

    def inside(
        self, window: WindowTiles, tiles: np.ndarray, query: np.ndarray, rank: np.ndarray, at_us: np.ndarray
    ) -> np.ndarray:
        """Return the places of the tiles that a window of each query has, by query. ``tiles`` are of its size."""
        times = [np.asarray(tiles[self._states[of][0][0]]) for of in self._session] if window.session else []
        return window.inside(np.asarray(tiles["k"]), query, rank, at_us, times)

    def evaluate_words(  # noqa: PLR0917 - one call site
        self,
        words: np.ndarray,
        starts: np.ndarray,
        rank: np.ndarray | None,
        group: np.ndarray,
        queries: int,
        at_us: np.ndarray,
    ) -> list[Values]:
        """Return the values of each of :attr:`outputs` from tiles that were already chosen for their windows.

        The values of all windows of a query are next to each other.

        ``words`` has the bits of the tiles' columns, one row for each column. A run of tiles, from one of ``starts``
        on, belongs to one ``group``: ``query · windows + window``, ascending. The tiles may be of other views that are
        :attr:`alike`. The view has no sketches; ``at_us`` is one time for all.
        """
        merged = self._merge_words(words, starts, rank, group, queries * len(self.windows))
        return [finish(output, [merged[row] for row in read], at_us) for output, read in self._reads]

    @cached_property
    def alike(self) -> Hashable:
        """Two views with equal values of this merge and finish alike: their tiles may be evaluated together."""
        states = tuple(state for _, state in self._states.values())
        outputs = tuple(replace(output, feature="") for output in self.outputs)
        return len(self.windows), states, outputs, self.sketches, self.is_plain

    def _merge_words(
        self, words: np.ndarray, starts: np.ndarray, rank: np.ndarray | None, group: np.ndarray, groups: int
    ) -> list[np.ndarray]:
        """Each column merged by group; a group without tiles has the content of an empty tile."""
        floats = words.view(np.float64)
        merged: list[np.ndarray] = []
        for state, kinds in self._words_of:
            columns = [(floats if is_float else words)[row] for row, is_float, _, _ in kinds]
            merged += state.reduce(columns, starts, rank) if len(starts) else columns
        if len(group) == groups:
            return merged
        for _, kinds in self._words_of:
            for row, _, dtype, identity in kinds:
                whole = np.full(groups, identity, dtype)
                whole[group] = merged[row]
                merged[row] = whole
        return merged

    @cached_property
    def _words_of(self) -> list[tuple[State, list[tuple[int, bool, str, Any]]]]:
        """Each state with its columns: row, whether it holds floats, dtype, and its content in an empty tile."""
        rows = itertools.count()
        return [
            (state, [(next(rows), dtype == "<f8", dtype, identity) for dtype, identity in state.columns])
            for _, state in self._states.values()
        ]

    @cached_property
    def _reads(self) -> list[tuple[OutputColumn, list[int]]]:
        """Each output with the rows of the columns that it is computed from."""
        names = [name for own, _ in self._states.values() for name in own]
        return [
            (output, [names.index(name) for component in output.components for name in self._states[component][0]])
            for output in self.outputs
        ]

    def _merge_queries(self, tiles: np.ndarray, query: np.ndarray, rank: np.ndarray, queries: int) -> np.ndarray:
        merged = np.repeat(self.empty, queries)
        if len(tiles):
            starts = run_starts(query)
            reduced = self.reduce(tiles, starts, rank)
            merged[query[starts]] = reduced
            if isinstance(reduced, SketchedTiles):
                merged = sketched(merged, reduced.entries)
        return merged

    def finish(self, merged: np.ndarray, at_us: np.ndarray) -> list[Values]:
        """Return the values of each output of merged partials, each at its t."""
        found = {index: entries_of(merged, place) for place, index in enumerate(self._sketches)}
        return [self._finish(output, merged, at_us, found) for output in self.outputs]

    def _finish(
        self,
        output: OutputColumn,
        merged: np.ndarray,
        at_us: np.ndarray,
        found: Mapping[int, tuple[np.ndarray, np.ndarray]],
    ) -> Values:
        first = output.components[0]
        if output.is_list:
            flat, number = cast("ValueSketch", self._sketches[first]).newest(*found[first])
            return lists_of_owners(typed(output, flat), number), np.ones(len(number), bool)
        if first in found:
            values, there = self._sketches[first].value(*found[first], output.item)
            return typed(output, values), there
        columns = [merged[name] for component in output.components for name in self._states[component][0]]
        return finish(output, columns, at_us)


@lru_cache(maxsize=256)
def kernel(spec: ViewSpec) -> TileKernel:
    """Return the kernel of a spec. A process compiles it once."""
    return TileKernel(spec)


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """Return the first index of each run of equal keys. The arrays are sorted together and not empty."""
    changed = np.zeros(len(keys[0]), bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)
