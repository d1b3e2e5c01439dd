"""Features to components and back: what each aggregate keeps in a tile, and how its columns are read off."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.errors import DefinitionError
from headrace.features.definitions.spec import feature_columns, result_kind
from headrace.features.kernel.sketches import MILLION
from headrace.features.kernel.states import FOREVER, NEVER, Component, DecayedState, StateColumns, Values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.features.definitions.expression import ExpressionTree

_DTYPES = {"int": "<i8", "bool": "<i8", "float": "<f8", "datetime": "<i8", "str": "text"}
_IN_TOLERANCE = frozenset({"sum", "mean", "variance", "std", "decayed_sum"})


@dataclass(frozen=True)
class OutputColumn:
    """One feature column without its window: how it is read off the components.

    ``item`` is what the column is of its feature: a bucket, a place from the newest, a quantile in millionths.
    """

    feature: str
    kind: str
    result: str  # int float bool
    components: tuple[int, ...]
    item: int = 0
    half_life_us: int = 0

    @property
    def exact(self) -> bool:
        """Whether two answers at the same V and t are equal to the bit, and not in a tolerance only."""
        return self.kind not in _IN_TOLERANCE


@dataclass(frozen=True)
class TypedValue:
    """The value of a feature, derived columns replaced, its kind, and whether it may be null."""

    value: ExpressionTree
    kind: str
    nullable: bool


def compile_feature(
    feature: Mapping[str, Any], shape: TypedValue, index: Callable[[Component], int]
) -> list[OutputColumn]:
    """The outputs of one feature of a spec; ``index`` gives the place of each component that they read.

    Raises DefinitionError for an aggregate that this version does not know.
    """
    kind = feature["aggregate"]
    return [
        OutputColumn(
            name, kind, result_kind(kind, shape.kind), tuple(map(index, parts)), item, feature.get("half_life_us", 0)
        )
        for name, (item, parts) in zip(feature_columns(feature), _parts(feature, shape), strict=True)
    ]


def _parts(feature: Mapping[str, Any], shape: TypedValue) -> Sequence[tuple[int, list[Component]]]:
    """The item of each column of a feature with the components that it reads."""
    kind, where = feature["aggregate"], feature["where"]
    if kind not in _PARTS:
        message = f"feature {feature['name']!r} is a {kind!r}; this version knows {sorted(_PARTS)}: update headrace"
        raise DefinitionError(message)
    count = Component("count", "add", "<i8", shape.value if shape.nullable else None, where)
    own = Component("value", kind, _DTYPES.get(shape.kind, "<i8"), shape.value, where)
    return _PARTS[kind](feature, own, count)


def _histogram(feature: Mapping[str, Any], own: Component, _: Component) -> list[tuple[int, list[Component]]]:
    bounds = itertools.pairwise([None, *feature["edges"], None])
    return [
        (bucket, [Component("count", "add", "<i8", own.value, own.where, low, high)])
        for bucket, (low, high) in enumerate(bounds)
    ]


def _quantile(feature: Mapping[str, Any], own: Component, _: Component) -> list[tuple[int, list[Component]]]:
    buckets = replace(own, op="buckets", dtype="<f8", argument=feature["bits"])
    wanted = feature["q"] if isinstance(feature["q"], list) else [feature["q"]]
    return [(round(q * MILLION), [buckets]) for q in wanted]


def _moments(_: Mapping[str, Any], own: Component, __: Component) -> list[tuple[int, list[Component]]]:
    return [(0, [replace(own, op="moments", dtype="<f8")])]


_PARTS: dict[str, Callable[[Mapping[str, Any], Component, Component], list[tuple[int, list[Component]]]]] = {
    "count": lambda _, __, count: [(0, [count])],
    "sum": lambda _, own, __: [(0, [replace(own, op="add")])],
    "mean": lambda _, own, count: [(0, [replace(own, op="add", dtype="<f8"), count])],
    "min": lambda _, own, count: [(0, [own, count])],
    "max": lambda _, own, count: [(0, [own, count])],
    "first": lambda _, own, __: [(0, [own])],
    "last": lambda _, own, __: [(0, [own])],
    "variance": _moments,
    "std": _moments,
    "decayed_sum": lambda f, own, _: [(0, [replace(own, op="decayed", dtype="<f8", argument=f["half_life_us"])])],
    "approx_distinct": lambda f, own, _: [(0, [replace(own, op="registers", argument=f["precision"])])],
    "last_n": lambda f, own, _: [(item, [replace(own, op="newest", argument=f["n"])]) for item in range(f["n"])],
    "quantile": _quantile,
    "histogram": _histogram,
}


def finish(output: OutputColumn, columns: StateColumns, at_us: np.ndarray) -> Values:
    """The values of an output over merged states at t, from the physical columns of its components."""
    return _FINISH[output.kind](output, columns, at_us)


def _plain(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    return columns[0], np.ones(len(columns[0]), bool)


def _mean(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    there = columns[1] > 0
    return np.divide(columns[0], columns[1], out=np.zeros(len(there)), where=there), there


def _extreme(_: OutputColumn, columns: StateColumns, __: np.ndarray) -> Values:
    there = columns[1] > 0
    return np.where(there, columns[0], 0), there


def _one(output: OutputColumn, columns: StateColumns, _: np.ndarray) -> Values:
    time, __, value = columns
    return typed(output, value), time != (FOREVER if output.kind == "first" else NEVER)


def _variance(output: OutputColumn, columns: StateColumns, _: np.ndarray) -> Values:
    count, __, squares = columns
    there = (count > 0) & np.isfinite(squares)
    variance = np.divide(squares, count, out=np.zeros(len(there)), where=there)
    return np.sqrt(variance) if output.kind == "std" else variance, there


def _decayed(output: OutputColumn, columns: StateColumns, at_us: np.ndarray) -> Values:
    time, total = columns
    return DecayedState(output.half_life_us).aged(total, time, at_us), np.ones(len(total), bool)


def typed(output: OutputColumn, values: np.ndarray) -> np.ndarray:
    """Values that a tile holds as numbers, as what they were."""
    return values.astype(bool) if output.result == "bool" else values


_FINISH: dict[str, Callable[[OutputColumn, StateColumns, np.ndarray], Values]] = {
    "count": _plain,
    "histogram": _plain,
    "sum": _plain,
    "mean": _mean,
    "min": _extreme,
    "max": _extreme,
    "first": _one,
    "last": _one,
    "variance": _variance,
    "std": _variance,
    "decayed_sum": _decayed,
}
