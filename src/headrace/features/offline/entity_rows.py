"""The rows of the event log that one entity's values of a view were made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow.dataset as ds
from msgspec import UNSET

from headrace.bus.source_partition import SourcePartition
from headrace.event_log.columns import ACCEPTED
from headrace.features.kernel.role_rows import view_rows

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.event_log.event_log import EventLog
    from headrace.features.kernel.tile_kernel import TileKernel


def entity_rows(
    log: EventLog, compiled: TileKernel, entity: Mapping[str, Any], offsets: Mapping[str, int], span: tuple[int, int]
) -> pl.DataFrame:
    """Return the rows of an entity below V whose event time is in ``span``, [from, to) in microseconds, oldest first.

    ``offsets`` is V: source partition → next offset. The columns are ``__partition``, ``__offset``, ``__time`` and the
    stream's fields, or of a view with roles the columns that it uses. Files of the log that cannot hold such rows are
    not read. A topic without a log has no rows.
    """
    spec = compiled.spec
    fields = [field.name for field in spec.stream.fields] if spec.roles is UNSET else spec.used_columns
    parts = [_kept(log, compiled, topic, entity) for topic in spec.topics if log.exists(topic)]
    wanted = ["__topic_id", "__partition", "__offset", "__row_offset", "__time", *fields]
    if not parts:
        return pl.DataFrame(schema=["__partition", "__offset", "__time", *fields])
    rows = pl.concat([part.select(wanted) for part in parts])
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
    inside = inside.filter(pl.col("__row_offset") < pl.col("__below")).sort("__time", "__partition", "__row_offset")
    return inside.select("__partition", "__offset", "__time", *fields)


def _kept(log: EventLog, compiled: TileKernel, topic: str, entity: Mapping[str, Any]) -> pl.DataFrame:
    """Return the rows of one stream that the view folds for an entity."""
    spec, keep = compiled.spec, ds.field("__verdict") == ACCEPTED
    if spec.entity.is_global:
        return compiled.keep(view_rows(log.select(topic, keep), spec, topic))
    if spec.roles is UNSET:
        for name in spec.key_names:
            keep &= ds.field(*name.split(".")) == entity[name]
    rows = compiled.keep(view_rows(log.select(topic, keep), spec, topic))
    return rows.filter(pl.all_horizontal(pl.col(name) == entity[name] for name in spec.key_names))
