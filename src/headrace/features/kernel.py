"""The tile kernel: lift rows to partials, reduce and merge partials, finish them to values.

It is pure, vectorised, and the only one. A *partial* is one structured record of physical columns ``c0, c1, …``; a
*tile* is a partial with its index ``k``. Live folding, look-ups, training sets, audits and rebuilds are all lift,
reduce, merge and finish over the same records.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headrace.features.component import Component
from headrace.features.definitions import column_names, spec_hash
from headrace.features.expression import Json, kind, nullable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import polars as pl

NEVER = -(2**63)
"""The event time of a ``last`` that has seen nothing."""
_DTYPES = {"int": "<i8", "bool": "<i8", "float": "<f8"}
_IDENTITY: dict[tuple[str, str], Any] = {
    ("add", "<i8"): 0,
    ("add", "<f8"): 0.0,
    ("min", "<i8"): 2**63 - 1,
    ("min", "<f8"): np.inf,
    ("max", "<i8"): NEVER,
    ("max", "<f8"): -np.inf,
}
_UFUNC = {"add": np.add, "min": np.minimum, "max": np.maximum}


@dataclass(frozen=True)
class Window:
    """A window of a view: its name, its tiles' resolution (index into the sizes) and their number."""

    name: str
    resolution: int
    tiles: int


@dataclass(frozen=True)
class Output:
    """One feature column without its window: how it is read off the components."""

    feature: str
    kind: str  # count sum mean min max last
    result: str  # int float bool
    components: tuple[int, ...]


Values = tuple[np.ndarray, np.ndarray]
"""Values, and where they are present."""


class Kernel:
    """The kernel of one view spec."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.version = spec_hash(spec)
        self.sizes = tuple(sorted({window["tile_us"] for window in spec["windows"]}))
        self.windows = tuple(
            Window(w["name"], self.sizes.index(w["tile_us"]), w["length_us"] // w["tile_us"]) for w in spec["windows"]
        )
        self.columns = column_names(spec)
        self.entity_keys: list[list[str]] = spec["entity"]["keys"]
        self._compile()
        self.tile = np.dtype([("k", "<i8"), *((name, dtype) for name, dtype, _ in self._physical)])
        self.empty = self._empty()

    def _compile(self) -> None:
        self.components: list[Component] = []
        self.outputs: list[Output] = []
        for feature in self.spec["features"]:
            for output, parts in _features(feature, self._shape(feature)):
                self.outputs.append(Output(**output, components=tuple(map(self._component, parts))))

    def _component(self, component: Component) -> int:
        """The index of a component; equal ones of several features are kept once."""
        if component not in self.components:
            self.components.append(component)
        return self.components.index(component)

    def _shape(self, feature: Mapping[str, Any]) -> tuple[Json, str, bool]:
        fields = [field for field in self.spec["source"]["fields"] if not field["many"]]
        kinds = {field["name"]: field["kind"] for field in fields}
        value = inline(feature["value"], self._derived)
        found = "int" if value is None else kind(value, kinds)
        may_be_null = value is not None and nullable(value, {field["name"] for field in fields if field["nullable"]})
        return value, found, may_be_null

    @cached_property
    def _derived(self) -> dict[str, Json]:
        derived: dict[str, Json] = {}
        for name, tree in self.spec["derived"]:
            derived[name] = inline(tree, derived)
        return derived

    @cached_property
    def _physical(self) -> list[tuple[str, str, str]]:
        """Name, dtype and op of each physical column; a ``last`` takes three."""
        shapes: list[tuple[str, str]] = []
        for component in self.components:
            if component.op == "last":
                shapes += [("<i8", "time"), ("<i8", "offset")]
            shapes.append((component.dtype, component.op))
        return [(f"c{index}", dtype, op) for index, (dtype, op) in enumerate(shapes)]

    @cached_property
    def _places(self) -> list[str]:
        """The name of each component's own value column."""
        return [name for name, _, op in self._physical if op not in {"time", "offset"}]

    @cached_property
    def _lasts(self) -> list[tuple[str, str, str]]:
        names = [name for name, _, _ in self._physical]
        return [(names[i - 2], names[i - 1], names[i]) for i, (_, _, op) in enumerate(self._physical) if op == "last"]

    @cached_property
    def _simple(self) -> list[tuple[str, np.ufunc]]:
        return [(name, _UFUNC[op]) for name, _, op in self._physical if op in _UFUNC]

    def _empty(self) -> np.ndarray:
        empty = np.zeros(1, self.tile)
        empty["k"] = NEVER
        for name, dtype, op in self._physical:
            empty[name] = NEVER if op == "time" else _IDENTITY.get((op, dtype), 0)
        return empty

    # -- rows to partials -------------------------------------------------------------------------------------------

    def keep(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The rows that this view folds: join keys present and the view's filter true."""
        return frame if self._filter is None else frame.filter(self._filter)

    @cached_property
    def _filter(self) -> pl.Expr | None:
        """None where every row is kept."""
        import polars as pl  # noqa: PLC0415

        from headrace.features.expression_polars import to_polars  # noqa: PLC0415

        where = self.spec["where"]
        keys = {key for key, _ in self.entity_keys}
        conditions = [
            pl.col(field["name"]).is_not_null()
            for field in self.spec["source"]["fields"]
            if field["name"] in keys and field["nullable"]
        ]
        if where is not None:
            conditions.append(to_polars(inline(where, self._derived)))
        return pl.all_horizontal(conditions) if conditions else None

    def lift(self, frame: pl.DataFrame) -> np.ndarray:
        """One partial a row (``k`` unset). The frame has the event's fields, ``__time`` (event, us) and ``offset``."""
        lifted = frame.select("offset", *self._lift)
        partials = np.empty(frame.height, self.tile)
        for name, _, _ in self._physical:
            partials[name] = lifted.get_column(name).to_numpy()
        return partials

    @cached_property
    def _lift(self) -> list[pl.Expr]:
        from headrace.features.lift import lift_expressions  # noqa: PLC0415

        return lift_expressions([(c, inline(c.where, self._derived)) for c in self.components], self._physical)

    # -- partials to partials ---------------------------------------------------------------------------------------

    def reduce(self, partials: np.ndarray, starts: np.ndarray, rank: np.ndarray | None = None) -> np.ndarray:
        """Merge runs of partials: ``starts`` are the first indexes of non-empty runs. ``k`` is that of the run's first.

        ``rank`` orders the source partitions where runs mix them: it breaks ties between equal event times.
        """
        merged: np.ndarray = partials[starts]
        for name, ufunc in self._simple:
            merged[name] = ufunc.reduceat(partials[name], starts)
        for names in self._lasts:
            chosen = partials[self._latest(partials, names, starts, rank)]
            for name in names:
                merged[name] = chosen[name]
        return merged

    @staticmethod
    def _latest(partials: np.ndarray, names: Sequence[str], starts: np.ndarray, rank: np.ndarray | None) -> np.ndarray:
        run = np.zeros(len(partials), np.int64)
        run[starts[1:]] = 1
        tie = np.zeros(len(partials), np.int8) if rank is None else rank
        order = np.lexsort((partials[names[1]], tie, partials[names[0]], np.cumsum(run)))
        latest: np.ndarray = order[np.append(starts[1:], len(partials)) - 1]
        return latest

    def merge(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Merge elementwise, both of one source partition. ``k`` is the right one's."""
        merged = right.copy()
        for name, ufunc in self._simple:
            merged[name] = ufunc(left[name], right[name])
        for names in self._lasts:
            earlier = self._earlier(right, left, names)
            for name in names:
                merged[name] = np.where(earlier, left[name], right[name])
        return merged

    @staticmethod
    def _earlier(one: np.ndarray, other: np.ndarray, names: Sequence[str]) -> np.ndarray:
        time, offset, _ = names
        same = one[time] == other[time]
        earlier: np.ndarray = (one[time] < other[time]) | (same & (one[offset] < other[offset]))
        return earlier

    # -- partials to values -----------------------------------------------------------------------------------------

    def evaluate(
        self, tiles: Sequence[np.ndarray], query: Sequence[np.ndarray], rank: Sequence[np.ndarray], at_us: np.ndarray
    ) -> list[Values]:
        """The values of ``len(at_us)`` queries, one Values a column of :attr:`columns`.

        ``tiles``, ``query`` and ``rank`` have one array a tile size: the tiles, the query that each belongs to (sorted)
        and the rank of its source partition. This is ``value(V, t)``: the caller chose the tiles by V, here t selects.
        """
        by_window: list[list[Values]] = []
        for window in self.windows:
            newest = np.floor_divide(at_us, self.sizes[window.resolution])
            of, which = tiles[window.resolution], query[window.resolution]
            age = newest[which] - of["k"]
            inside = np.flatnonzero((age >= 0) & (age < window.tiles))
            merged = self._merge_queries(of[inside], which[inside], rank[window.resolution][inside], len(at_us))
            by_window.append(self.finish(merged))
        return [by_window[w][f] for f in range(len(self.outputs)) for w in range(len(self.windows))]

    def _merge_queries(self, tiles: np.ndarray, query: np.ndarray, rank: np.ndarray, queries: int) -> np.ndarray:
        merged = np.repeat(self.empty, queries)
        if len(tiles):
            starts = run_starts(query)
            merged[query[starts]] = self.reduce(tiles, starts, rank)
        return merged

    def finish(self, merged: np.ndarray) -> list[Values]:
        """The values of each output of merged partials."""
        return [self._finish(output, merged) for output in self.outputs]

    def _finish(self, output: Output, merged: np.ndarray) -> Values:
        parts = [merged[self._places[component]] for component in output.components]
        return _FINISH[output.kind](output, parts, self._seen(output, merged))

    def _seen(self, output: Output, merged: np.ndarray) -> np.ndarray:
        """Whether a ``last`` has seen a value; all true for others."""
        if output.kind != "last":
            return np.ones(len(merged), bool)
        time = next(names[0] for names in self._lasts if names[2] == self._places[output.components[0]])
        seen: np.ndarray = merged[time] != NEVER
        return seen


@lru_cache(maxsize=256)
def _kernel(canonical: bytes) -> Kernel:
    return Kernel(msgspec.json.decode(canonical))


def kernel(spec: Mapping[str, Any]) -> Kernel:
    """The kernel of a spec, compiled once a process."""
    return _kernel(msgspec.json.encode(spec, order="sorted"))


def run_starts(*keys: np.ndarray) -> np.ndarray:
    """The first index of each run of equal keys; the arrays are sorted together and not empty."""
    changed = np.zeros(len(keys[0]), bool)
    changed[:1] = True
    for key in keys:
        changed[1:] |= key[1:] != key[:-1]
    return np.flatnonzero(changed)


def inline(tree: Json, derived: Mapping[str, Json]) -> Json:
    """The tree with derived columns replaced by what they stand for."""
    if tree is None or tree[0] == "lit":
        return tree
    if tree[0] == "col":
        return derived.get(tree[1], tree)
    return [tree[0], *(inline(arm, derived) if (isinstance(arm, list) and tree[0] != "is_in") or index == 0 else arm
                       for index, arm in enumerate(tree[1:]))]  # fmt: skip


def _features(
    feature: Mapping[str, Any], shape: tuple[Json, str, bool]
) -> list[tuple[dict[str, Any], list[Component]]]:
    """The outputs of one feature of a spec with the components that each reads."""
    value, found, may_be_null = shape
    where, name, aggregate = feature["where"], feature["name"], feature["aggregate"]
    count = Component("count", "add", "<i8", value if may_be_null else None, where)
    dtype = _DTYPES.get(found, "<i8")
    number = "float" if found == "float" else "int"
    if aggregate == "histogram":
        return _buckets(name, value, where, feature["edges"])
    parts, result = {
        "count": ([count], "int"),
        "sum": ([Component("value", "add", dtype, value, where)], number),
        "mean": ([Component("value", "add", "<f8", value, where), count], "float"),
        "min": ([Component("value", "min", dtype, value, where), count], number),
        "max": ([Component("value", "max", dtype, value, where), count], number),
        "last": ([Component("last", "last", dtype, value, where)], found),
    }[aggregate]
    return [({"feature": name, "kind": aggregate, "result": result}, parts)]


def _buckets(name: str, value: Json, where: Json, edges: list[float]) -> list[tuple[dict[str, Any], list[Component]]]:
    bounds = [None, *edges, None]
    return [
        (
            {"feature": f"{name}_b{index}", "kind": "count", "result": "int"},
            [Component("count", "add", "<i8", value, where, low, high)],
        )
        for index, (low, high) in enumerate(itertools.pairwise(bounds))
    ]


def _plain(_: Output, parts: list[np.ndarray], seen: np.ndarray) -> Values:
    return parts[0], seen


def _mean(_: Output, parts: list[np.ndarray], __: np.ndarray) -> Values:
    there = parts[1] > 0
    return np.divide(parts[0], parts[1], out=np.zeros(len(there)), where=there), there


def _extreme(_: Output, parts: list[np.ndarray], __: np.ndarray) -> Values:
    there = parts[1] > 0
    return np.where(there, parts[0], 0), there


def _last(output: Output, parts: list[np.ndarray], seen: np.ndarray) -> Values:
    return parts[0].astype(bool) if output.result == "bool" else parts[0], seen


_FINISH: dict[str, Callable[[Output, list[np.ndarray], np.ndarray], Values]] = {
    "count": _plain,
    "sum": _plain,
    "mean": _mean,
    "min": _extreme,
    "max": _extreme,
    "last": _last,
}
