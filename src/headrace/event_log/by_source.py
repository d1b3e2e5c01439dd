"""Splits rows by their source partition, each part in order of offset. Rows in that order are not copied."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.bus.source_partition import SourcePartition

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


_MANY = 10_000


_PLACE = ("__partition", "__topic_id")


def by_source(rows: pl.DataFrame) -> dict[SourcePartition, pl.DataFrame]:
    """Return the rows of each source partition in order of offset. The source partitions are in order too."""
    starts, sources = source_runs(rows)
    if len(starts) > _MANY:
        found = {SourcePartition(*place): [part] for place, part in rows.partition_by(_PLACE, as_dict=True).items()}
    else:
        found = {}
        for source, (begin, end) in zip(sources, pairwise([*starts.tolist(), rows.height]), strict=True):
            found.setdefault(source, []).append(rows[begin:end])
    return {source: _by_offset(found[source]) for source in sorted(found)}


def _by_offset(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = pl.concat(sorted(parts, key=lambda part: part.get_column("__offset")[0]))
    return whole if whole.get_column("__offset").is_sorted() else whole.sort("__offset")


def source_runs(rows: pl.DataFrame) -> tuple[np.ndarray, list[SourcePartition]]:
    """Return the number of the first row of each run of one source partition's rows, and the partition of each run."""
    partition, topic_id = (rows.get_column(name) for name in _PLACE)
    numbers = partition.to_numpy()
    changed = np.ones(rows.height, bool)
    changed[1:] = numbers[1:] != numbers[:-1]
    if not topic_id.eq_missing(topic_id.head(1)).all():  # most often there is only one
        changed[1:] |= topic_id.ne_missing(topic_id.shift(1)).to_numpy()[1:]
    starts = np.flatnonzero(changed)
    return starts, [SourcePartition(*found) for found in rows.select(_PLACE)[starts].iter_rows()]


def source_codes(rows: pl.DataFrame, known: Iterable[SourcePartition] = ()) -> tuple[list[SourcePartition], np.ndarray]:
    """Return the source partitions of the rows and the ``known`` ones, in order, and each row's place among them."""
    starts, of_runs = source_runs(rows)
    sources = sorted({*of_runs, *known})
    codes = {source: code for code, source in enumerate(sources)}
    lengths = np.diff(starts, append=rows.height)
    return sources, np.repeat(np.array([codes[source] for source in of_runs], np.int64), lengths)
