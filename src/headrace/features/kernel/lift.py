"""Turns rows into partials in Polars: the physical columns of each component, and the entries of its sketch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.features.definitions.expression_tree import plain_column
from headrace.features.kernel.category_sketch import MOST_CATEGORY
from headrace.features.kernel.component_states import state_of
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.hyperloglog import hash_numbers, hash_texts
from headrace.features.kernel.text_sketch import TextSketch, Utf8
from headrace.features.kernel.vector_sketch import NUMBERS, OneVectorSketch, VectorSumSketch

if TYPE_CHECKING:
    from headrace.features.kernel.sketches import Sketch
    from headrace.features.kernel.states import Component
    from headrace.features.kernel.vector_sketch import VectorSketch

_TYPES: dict[str, pl.DataType] = {"<i8": pl.Int64(), "<f8": pl.Float64(), "text": pl.String()}
_NOTHING: dict[str, float | str] = {"<i8": 0, "<f8": 0.0, "text": ""}


def lift_state(component: Component) -> list[pl.Expr]:
    """Return an expression for each physical column of the component's state."""
    value = _value(component)
    counted = _counted(component, value)
    if component.measure == "count":
        return [pl.lit(1, pl.Int64) if counted is None else counted.fill_null(value=False).cast(pl.Int64)]
    there = value.is_not_null() if counted is None else counted & value.is_not_null()
    return _times(component, there) if component.measure == "time" else _measures(component, value, there)


def _times(component: Component, there: pl.Expr) -> list[pl.Expr]:
    """The event time if the row counts. Every further time of the state is one that no row has."""
    columns = state_of(component).columns
    first = (
        pl.col("__time")
        if component.value is None and component.where is None
        else _where(there, "__time", columns[0][1])
    )
    return [first, *(pl.lit(nothing, pl.Int64) for _, nothing in columns[1:])]


def _measures(component: Component, value: pl.Expr, there: pl.Expr) -> list[pl.Expr]:
    """What the row has of the value."""
    columns = state_of(component).columns
    measured = _measured(component, value, columns[-1][1])
    if component.op in {"add", "min", "max"}:
        return [measured]
    time = _where(there, "__time", columns[1 if component.op == "trend" else 0][1])
    number = there.fill_null(value=False).cast(pl.Int64)
    match component.op:
        case "first" | "last":
            found = [time, _where(there, "__row_offset", 0), measured]
        case "row_value":
            found = [pl.col("__time"), pl.col("__row_offset").cast(pl.Int64), number, measured]
        case "decayed":
            found = [time, measured]
        case "decayed_mean":
            found = [time, measured, number.cast(pl.Float64)]
        case "trend":
            found = [number, time, pl.lit(0.0), measured]
        case "correlation":
            other = to_polars(component.other)
            both = (there & other.is_not_null()).fill_null(value=False).cast(pl.Int64)
            found = [both, measured, other.cast(pl.Float64).fill_null(0.0)]
        case _:  # moments of one value
            found = [number, measured]
    return found + [pl.lit(0.0)] * (len(columns) - len(found))


def column_itself(component: Component, frame: pl.DataFrame) -> np.ndarray | int | None:
    """Return the single physical column of a component if it is a column of the frame, or the constant 1.

    Returns None if it has to be computed. This saves a call into Polars, which costs as much as folding a thousand
    rows: live batches are small.
    """
    if component.where is not None or component.low is not None or component.high is not None:
        return None
    if component.value is None:
        return _of_every_row(component, frame)
    name = plain_column(component.value)
    if name is None or component.op not in _OF_ONE_COLUMN:
        return None
    column = frame.get_column(name)
    if column.null_count():
        return None
    if component.measure != "value":
        return _of_every_row(component, frame)
    return column.to_numpy() if column.dtype == _TYPES[component.dtype] else None


def _of_every_row(component: Component, frame: pl.DataFrame) -> np.ndarray | int | None:
    if component.measure == "time" and component.op in _OF_ONE_COLUMN:
        return frame.get_column("__time").to_numpy()
    return 1 if component.measure == "count" else None


_OF_ONE_COLUMN = {"add", "min", "max"}


def lift_sketch(component: Component, sketch: Sketch, frame: pl.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return where the entries of each row begin, how many they are, and all entries.

    A number has one entry, also in a row that does not count; a text has as many as it needs.
    """
    if isinstance(sketch, VectorSumSketch | OneVectorSketch):
        return _lift_vectors(component, sketch, frame)
    value = _value(component)
    counted = _counted(component, value)
    there = value.is_not_null() if counted is None else counted & value.is_not_null()
    lifted = frame.select(
        "__time",
        "__row_offset",
        there.fill_null(value=False).alias("there"),
        _measured(component, value, _NOTHING[component.dtype]).alias("value"),
    )
    values = lifted.get_column("value")
    time, offset, there_now = (lifted.get_column(name).to_numpy() for name in ("__time", "__row_offset", "there"))
    if isinstance(sketch, TextSketch):
        number, entries = sketch.lift_texts(_utf8(values), there_now, time, offset)
        return np.cumsum(number) - number, number, entries
    if component.op != "registers":
        is_text = component.dtype == "text"
        content = _utf8(values).of_width(MOST_CATEGORY) if is_text else values.to_numpy()
    else:
        content = hash_texts(values.to_list()) if component.dtype == "text" else hash_numbers(values.to_numpy())
    return np.arange(len(time)), there_now.astype(np.int64), sketch.lift(content, time, offset)


def _lift_vectors(
    component: Component, sketch: VectorSketch, frame: pl.DataFrame
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what :func:`lift_sketch` does, of vectors. An entry stands only for a row that counts.

    A list of another length, or with a number that is not finite, counts as null: the log may be older than the vector.
    """
    value = _value(component)
    counted = _counted(component, value)
    fits = value.list.len() == sketch.dim
    there = (fits if counted is None else counted & fits).fill_null(value=False)
    lifted = frame.select("__time", "__row_offset", there.alias("there"), value.alias("value"))
    has = lifted.get_column("there").to_numpy().copy()
    flat = lifted.get_column("value").filter(lifted.get_column("there")).explode().cast(pl.Float64).to_numpy()
    vectors = np.zeros((len(has), sketch.dim))
    vectors[has] = flat.reshape(-1, sketch.dim)
    has &= np.isfinite(vectors).all(axis=1)
    kept = np.ones(len(has), bool) if sketch.keeps_rows else has
    time, offset = (lifted.get_column(name).to_numpy()[kept] for name in ("__time", "__row_offset"))
    entries = sketch.lift(vectors[kept], time, offset)
    if sketch.keeps_rows:
        entries["there"] = has
        entries[NUMBERS][~has] = 0.0
    number = kept.astype(np.int64)
    return np.cumsum(number) - number, number, entries


def _utf8(texts: pl.Series) -> Utf8:
    """Return texts, of which none is null, as their bytes."""
    array = texts.to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, data = array.buffers()
    of_texts = np.frombuffer(ends, "<i8")[array.offset : array.offset + len(array) + 1] if len(array) else np.zeros(1)
    return Utf8(np.frombuffer(data or b"", "u1"), of_texts.astype(np.int64))


def _value(component: Component) -> pl.Expr:
    return pl.lit(0) if component.value is None else to_polars(component.value)


def _counted(component: Component, value: pl.Expr) -> pl.Expr | None:
    """An expression that is true if a row counts; None if every row does."""
    conditions = [] if component.where is None else [to_polars(component.where)]
    if component.measure == "count" and component.value is not None:
        conditions.append(value.is_not_null())
    if component.low is not None:
        conditions.append(value >= component.low)
    if component.high is not None:
        conditions.append(value < component.high)
    return pl.all_horizontal(conditions) if conditions else None


def _measured(component: Component, value: pl.Expr, nothing: float | str) -> pl.Expr:
    dtype = _TYPES[component.dtype]
    kept = value.cast(dtype)
    if component.where is not None:
        kept = pl.when(to_polars(component.where)).then(kept)
    return kept.fill_null(pl.lit(nothing, dtype))


def _where(condition: pl.Expr, name: str, otherwise: int) -> pl.Expr:
    return pl.when(condition).then(pl.col(name)).otherwise(pl.lit(otherwise, pl.Int64))
