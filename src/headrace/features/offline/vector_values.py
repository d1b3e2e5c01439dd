"""The values of served vectors as columns: numbers, and from their texts the features that are no numbers."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace.bus.vector import dim_of
from headrace.features.definitions.expression_kinds import as_list
from headrace.features.definitions.spec import NUMBER_KINDS
from headrace.features.offline.feature_history import column_dtype

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

TEXTS = "texts"
_LISTS: dict[str, msgspec.json.Decoder[Any]] = {
    f"list({name})": msgspec.json.Decoder(list[of])  # type: ignore[valid-type]
    for name, of in {"int": int, "float": float, "bool": bool, "str": str, "date": date, "datetime": datetime}.items()
}


def no_numbers(kinds: Mapping[str, str]) -> list[str]:
    """Return the columns that are texts, times, dates, lists or vectors."""
    return [name for name, kind in kinds.items() if kind not in NUMBER_KINDS]


def logged_columns(kinds: Iterable[Mapping[str, str]], columns: Sequence[str]) -> list[str]:
    """Return the columns of the log of vectors to read: the texts too, if some features are no numbers.

    ``kinds`` are those of the features of each model. Before a worker of this release has written to it, a log may lack
    the column of the texts.
    """
    has_texts = any(map(no_numbers, kinds))
    return [*columns, TEXTS] if has_texts else [*columns]


def vector_columns(
    vectors: pl.DataFrame, kinds: Mapping[str, str], *, values: str = "values", texts: str = TEXTS
) -> pl.DataFrame:
    """Return one column for each feature of a service. ``kinds`` has the kind of each, in order.

    ``values`` and ``texts`` are the names of the columns that have them. Numbers are float64. A text that is no time,
    date, list or vector of the length where one is wanted is null.
    """
    numbers = vectors.select(pl.col(values).list.to_struct(fields=list(kinds))).unnest(values)
    others = no_numbers(kinds)
    if not others:
        return numbers
    if texts not in vectors.columns:
        return numbers.with_columns(pl.lit(None, column_dtype(kinds[name])).alias(name) for name in others)
    found = vectors.select(pl.col(texts).list.to_struct(fields=list(kinds))).unnest(texts)
    return numbers.with_columns(typed_texts(found.get_column(name), kinds[name]) for name in others)


def typed_texts(texts: pl.Series, kind: str) -> pl.Series:
    """Return the texts of logged vectors as values of their kind, null where a text is none."""
    decoder, dim = _LISTS.get(as_list(kind)), dim_of(kind)
    if decoder is not None:
        read = (None if text is None else _list(text, decoder) for text in texts.to_list())
        found = [None if each is None or len(each) != (dim or len(each)) else each for each in read]
        return pl.Series(texts.name, found, column_dtype(kind))
    if kind == "datetime":
        return texts.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return texts.str.to_date("%Y-%m-%d", strict=False) if kind == "date" else texts


def _list(text: str, decoder: msgspec.json.Decoder[Any]) -> list[Any] | None:
    try:
        found: list[Any] = decoder.decode(text)
    except msgspec.MsgspecError:
        return None
    return found


def model_matrix(features: pl.DataFrame, request: pl.DataFrame) -> pd.DataFrame:
    """Return what an estimator gets: the features, then the unchanged request features.

    Numbers are float64, NaN where there is no value. A text is a str or None, a time ``datetime64[us, UTC]``, a
    date ``datetime64[ms]``, and a list a list, which is empty where there is no value. A vector has a column
    for each of its numbers: ``<feature>_0``, ``<feature>_1``, and so on.
    """
    features = _numbers_of_vectors(features)
    numbers = [name for name, dtype in features.schema.items() if dtype.is_numeric() or dtype in _LIKE_NUMBERS]
    found = features.with_columns(pl.col(numbers).cast(pl.Float64).fill_null(float("nan")))
    frame = found.hstack(request).to_pandas()
    for name, dtype in features.schema.items():
        if isinstance(dtype, pl.List):
            frame[name] = list_column(features.get_column(name).to_list(), frame.index)
    return frame


def list_column(values: Sequence[list[Any] | None], index: Any = None) -> pd.Series:
    """Return a column of lists as an estimator gets it: no value is an empty list."""
    import pandas as pd  # noqa: PLC0415 - seconds at start-up that a reader of the log does not need

    return pd.Series([[] if value is None else value for value in values], index=index, dtype=object)


def _numbers_of_vectors(features: pl.DataFrame) -> pl.DataFrame:
    """Return the features with the numbers of each vector in place of the vector."""
    for name, dtype in features.schema.items():
        if isinstance(dtype, pl.Array):
            numbers = [f"{name}_{place}" for place in range(dtype.size)]
            features = features.with_columns(pl.col(name).arr.to_struct(fields=numbers)).unnest(name)
    return features


_LIKE_NUMBERS = (pl.Boolean, pl.Null)
