"""Rows by source partition and offset, and other orders, without copying what is in order."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.features.online import Source

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_MOST = 2**62
_BITS = 63
_MANY = 10_000
_PLACE = ("__partition", "__topic_id")


def by_source(rows: pl.DataFrame) -> dict[Source, pl.DataFrame]:
    """The rows of each source partition by offset, the sources in order."""
    starts, sources = source_runs(rows)
    if len(starts) > _MANY:
        found = {Source(*place): [part] for place, part in rows.partition_by(_PLACE, as_dict=True).items()}
    else:
        found = {}
        for source, (begin, end) in zip(sources, pairwise([*starts.tolist(), rows.height]), strict=True):
            found.setdefault(source, []).append(rows[begin:end])
    return {source: _by_offset(found[source]) for source in sorted(found)}


def _by_offset(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    whole = pl.concat(sorted(parts, key=lambda part: part.get_column("__offset")[0]))
    return whole if whole.get_column("__offset").is_sorted() else whole.sort("__offset")


def source_runs(rows: pl.DataFrame) -> tuple[np.ndarray, list[Source]]:
    """Where each run of rows of one source partition begins, and which it is of."""
    partition, topic_id = (rows.get_column(name) for name in _PLACE)
    numbers = partition.to_numpy()
    changed = np.ones(rows.height, bool)
    changed[1:] = numbers[1:] != numbers[:-1]
    if not topic_id.eq_missing(topic_id.head(1)).all():  # mostly there is one
        changed[1:] |= topic_id.ne_missing(topic_id.shift(1)).to_numpy()[1:]
    starts = np.flatnonzero(changed)
    return starts, [Source(*found) for found in rows.select(_PLACE)[starts].iter_rows()]


def source_codes(rows: pl.DataFrame, known: Iterable[Source] = ()) -> tuple[list[Source], np.ndarray]:
    """The source partitions, those of the rows and others that are ``known``, in order; each row's place among them."""
    starts, of_runs = source_runs(rows)
    sources = sorted({*of_runs, *known})
    codes = {source: code for code, source in enumerate(sources)}
    lengths = np.diff(starts, append=rows.height)
    return sources, np.repeat(np.array([codes[source] for source in of_runs], np.int64), lengths)


def stable_order(major: np.ndarray, minor: np.ndarray) -> np.ndarray:
    """The stable order of rows by two whole numbers, ``major`` not below 0; one sort where both fit into one number."""
    if not len(major):
        return np.zeros(0, np.int64)
    low, width = int(minor.min()), int(minor.max()) - int(minor.min()) + 1
    if (int(major.max()) + 1) * width >= _MOST:
        return np.lexsort((minor, major))
    return in_order(major * width + (minor - low))[1]


def in_order(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers not below 0 sorted, and their stable order.

    Numbers are sorted with their places behind them, where both fit: several times as fast as to find an order.
    """
    count = len(numbers)
    if (numbers[1:] >= numbers[:-1]).all():
        return numbers, np.arange(count)
    bits = (count - 1).bit_length()
    if int(numbers.max()).bit_length() + bits >= _BITS:
        order = np.argsort(numbers, kind="stable")
        return numbers[order], order
    packed = (numbers << bits) | np.arange(count)
    packed.sort()
    return packed >> bits, packed & ((1 << bits) - 1)
