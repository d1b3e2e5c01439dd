"""How often each text was served in each looked-up feature, by day: the counts of the largest categories, and *other*.

They are counted in the pass over the vectors that counts their null values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from headrace.features.offline.vector_values import TEXTS, typed_texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.trainers.definitions import Model

MOST_CATEGORIES = 1_000
"""The categories of a feature that are counted on a day. The others of the day are one, *other*."""
OTHER = 0
"""The number of *other*. A category is known by the hash of its text."""
_VECTORS = ["model", "service", "is_doubtful", "width", "day"]
_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "model": pl.String, "service": pl.String, "is_doubtful": pl.Boolean, "width": pl.UInt32, "day": pl.Int64,
    "column": pl.Int64, "category": pl.UInt64, "rows": pl.UInt32,
}  # fmt: skip


CATEGORY_KINDS = ("str", "list(str)")
"""The kinds of features that have categories: texts, and lists of texts, each item of which is one."""


class ServedCategories:
    """Counts the texts of the vectors of some models, and the items of their lists of texts.

    A vector that is logged twice counts twice.
    """

    def __init__(self, models: Mapping[str, Model]) -> None:
        wanted = [
            {"model": name, "service": model.features.version, "column": place, "many": kind != "str"}
            for name, model in models.items()
            for place, kind in enumerate(model.features.column_kinds.values())
            if kind in CATEGORY_KINDS
        ]
        schema = {name: _SCHEMA[name] for name in ("model", "service", "column")} | {"many": pl.Boolean()}
        self._wanted = pl.DataFrame(wanted, schema)
        self._counts = pl.DataFrame(schema=_SCHEMA)

    def counted(self, own: pl.DataFrame) -> pl.DataFrame:
        """Return the counts of some vectors: rows with the names of ``_VECTORS``, ``values`` and ``texts``."""
        if self._wanted.is_empty() or TEXTS not in own.columns:
            return self._counts.clear()
        complete = own.filter(pl.col(TEXTS).list.len() == pl.col("width"))
        complete = complete.with_columns(pl.int_ranges(pl.col("width")).alias("column"))
        texts = complete.select(*_VECTORS, "column", TEXTS).explode("column", TEXTS).drop_nulls(TEXTS)
        texts = texts.join(self._wanted, on=["model", "service", "column"], how="inner")
        lists = texts.filter("many").with_columns(typed_texts(texts.filter("many").get_column(TEXTS), "list(str)"))
        texts = pl.concat([texts.filter(~pl.col("many")), lists.explode(TEXTS).drop_nulls(TEXTS)])
        category = pl.col(TEXTS).hash().alias("category")
        counts = texts.group_by(*_VECTORS, "column", category).agg(pl.len().alias("rows"))
        return counts.select(pl.col(name).cast(dtype) for name, dtype in _SCHEMA.items())

    def replace(self, first: int, until: int, oldest: int, counts: Sequence[pl.DataFrame]) -> None:
        """Have these counts for the days from ``first`` on, and none of the days before ``oldest``."""
        day = pl.col("day")
        kept = self._counts.filter(((day < first) | (day >= until)) & (day >= oldest))
        self._counts = pl.concat([kept, *map(_largest, [pl.concat(counts)] if counts else [])])

    def of(self, model: Model) -> pl.DataFrame:
        """Return ``__day``, ``column``, ``category`` and ``rows`` of a model's vectors.

        ``column`` is the place of the feature. Vectors that the model leaves out because they are in doubt do not
        count.
        """
        own = (pl.col("model") == model.name) & (pl.col("service") == model.features.version)
        own &= pl.col("width") == len(model.features.columns())
        if model.on_stale == "leave_out":
            own &= ~pl.col("is_doubtful")
        found = self._counts.filter(own).group_by(pl.col("day").alias("__day"), "column", "category")
        return found.agg(pl.col("rows").sum())


def _largest(counts: pl.DataFrame) -> pl.DataFrame:
    """Return the largest categories of each feature and day, and one that has the rows of the others."""
    of_feature = [*_VECTORS, "column"]
    whole = counts.group_by(*of_feature, "category").agg(pl.col("rows").sum())
    ordered = whole.sort("rows", "category", descending=True)
    is_large = pl.int_range(pl.len()).over(of_feature) < MOST_CATEGORIES
    category = pl.when(is_large).then("category").otherwise(pl.lit(OTHER, pl.UInt64)).alias("category")
    cut = ordered.with_columns(category).group_by(*of_feature, "category").agg(pl.col("rows").sum())
    return cut.select(list(_SCHEMA))
