"""The rows of the event log that one entity's values of a view were made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.dataset as ds

from headrace.bus.source_partition import SourcePartition
from headrace.event_log.columns import ACCEPTED
from headrace.features.offline.view_history import with_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.event_log.event_log import EventLog
    from headrace.features.kernel.tile_kernel import TileKernel


def entity_rows(
    log: EventLog, compiled: TileKernel, entity: Mapping[str, Any], offsets: Mapping[str, int], span: tuple[int, int]
) -> pl.DataFrame:
    """Return the rows of an entity below V whose event time is in ``span``, [from, to) in microseconds, oldest first.

    ``offsets`` is V: source partition → next offset. The columns are ``__partition``, ``__offset``, ``__time`` and the
    stream's fields. Files of the log that cannot hold such rows are not read. A topic without a log has no rows.
    """
    stream = compiled.spec.stream
    topic = stream.topic
    fields = [field.name for field in stream.fields]
    if not log.exists(topic):
        return pl.DataFrame(schema=["__partition", "__offset", "__time", *fields])
    keep = ds.field("__verdict") == ACCEPTED
    for name, _ in compiled.entity_keys:
        keep &= ds.field(*name.split(".")) == entity[name]
    rows = compiled.keep(with_time(log.select(topic, keep), stream.event_time))
    sources = [SourcePartition.from_text(text) for text in offsets]
    below = pl.DataFrame(
        {
            "__topic_id": [source.topic_id for source in sources],
            "__partition": pl.Series([source.partition for source in sources], dtype=pl.Int32),
            "__below": pl.Series([*offsets.values()], dtype=pl.Int64),
        }
    )
    inside = rows.filter(pl.col("__time").is_between(*span, closed="left"))
    inside = inside.join(below, on=["__topic_id", "__partition"], how="inner")
    inside = inside.filter(pl.col("offset") < pl.col("__below")).sort("__time", "__partition", "offset")
    return inside.select("__partition", "__offset", "__time", *fields)
