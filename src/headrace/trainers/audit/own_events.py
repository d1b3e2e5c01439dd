"""The requests' own records in an audit: where they are, and how many served vectors counted them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from headrace.features.offline.feature_history import own_limits

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from headrace.features.definitions.feature_spec import OwnEventRule
    from headrace.features.offline.feature_history import OwnRecords
    from headrace.features.offline.view_history import ViewHistory
    from headrace.trainers.definitions import Model

_PLACE = {"__partition": pl.Int32(), "__topic_id": pl.Binary(), "__offset": pl.Int64()}


@dataclass(frozen=True)
class OwnEvents:
    """The rule of a model for a request's own event, and the topic of its requests."""

    topic: str
    rule: OwnEventRule

    @staticmethod
    def of_model(model: Model) -> OwnEvents | None:
        """Return the rule of a model; None if no view is made from the stream of its requests."""
        return None if model.own_event is None else OwnEvents(model.requests.topic, model.own_event)


def record_places(vectors: pl.DataFrame) -> pl.DataFrame:
    """Return ``__partition __topic_id __offset`` of each vector's request; null where the record is not known.

    A log that is older than the column ``record`` knows none.
    """
    if "record" not in vectors.columns:
        return pl.DataFrame([pl.Series(name, [None] * vectors.height, dtype) for name, dtype in _PLACE.items()])
    parts = vectors.get_column("record").str.split_exact("-", 2).struct.unnest()
    return parts.select(
        pl.col("field_1").cast(pl.Int32).alias("__partition"),
        pl.col("field_0").str.decode("hex").alias("__topic_id"),
        pl.col("field_2").cast(pl.Int64).alias("__offset"),
    )


def count_own_events(own: OwnRecords | None, views: Iterable[tuple[ViewHistory, np.ndarray]]) -> dict[str, int]:
    """Return the number of vectors that ``counted`` their own record, that did ``not_counted``, and ``unknown`` ones.

    ``views`` are the histories of all views, each with the V of every vector. A vector that was logged without the
    place of its record is unknown. Empty for a model without a rule.
    """
    if own is None:
        return {}
    known = own.places.get_column("__offset").is_not_null().to_numpy()
    counted = known & (own.rule == "included")
    for history, offsets in views:
        if own.topic in history.kernel.spec.topics:
            counted &= (offsets > own_limits(history.sources, own.places)).any(axis=1)
    numbers = {"counted": counted, "not_counted": known & ~counted, "unknown": ~known}
    return {name: int(rows.sum()) for name, rows in numbers.items()}
