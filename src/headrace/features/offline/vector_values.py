"""The values of served vectors as columns: numbers, and from their texts the features that are no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.features.definitions.spec import NUMBER_KINDS
from headrace.features.offline.feature_history import COLUMN_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import pandas as pd

TEXTS = "texts"


def no_numbers(kinds: Mapping[str, str]) -> list[str]:
    """Return the columns that are texts, times or dates."""
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

    ``values`` and ``texts`` are the names of the columns that have them. Numbers are float64. A text that is no time or
    date where one is wanted is null.
    """
    numbers = vectors.select(pl.col(values).list.to_struct(fields=list(kinds))).unnest(values)
    others = no_numbers(kinds)
    if not others:
        return numbers
    if texts not in vectors.columns:
        return numbers.with_columns(pl.lit(None, COLUMN_TYPES[kinds[name]]).alias(name) for name in others)
    found = vectors.select(pl.col(texts).list.to_struct(fields=list(kinds))).unnest(texts)
    return numbers.with_columns(_typed(found.get_column(name), kinds[name]) for name in others)


def _typed(texts: pl.Series, kind: str) -> pl.Series:
    if kind == "datetime":
        return texts.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False)
    return texts.str.to_date("%Y-%m-%d", strict=False) if kind == "date" else texts


def model_matrix(features: pl.DataFrame, request: pl.DataFrame) -> pd.DataFrame:
    """Return what an estimator gets: the features, then the unchanged request features.

    Numbers are float64, NaN where there is no value. A text is a str or None, a time ``datetime64[us, UTC]``, and a
    date ``datetime64[ms]``.
    """
    numbers = [name for name, dtype in features.schema.items() if dtype.is_numeric() or dtype in _LIKE_NUMBERS]
    found = features.with_columns(pl.col(numbers).cast(pl.Float64).fill_null(float("nan")))
    return found.hstack(request).to_pandas()


_LIKE_NUMBERS = (pl.Boolean, pl.Null)
