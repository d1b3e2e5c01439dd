"""Compares the event log with the source data, event by event."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import polars as pl

from headrace.bus.codec import Decoder
from headrace.event_log.columns import ACCEPTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.app.demo.history import History
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog


def count_lost_and_duplicated(history: History, streams: Mapping[str, Stream], log: EventLog) -> tuple[int, int]:
    """Return how many source events the log lacks, and how many events it has too often."""
    lost = duplicated = 0
    for topic, source in _source(history, streams).items():
        names = [field.name for field in streams[topic].columns]
        logged = log.read(topic).filter(pl.col("__verdict") == ACCEPTED).select(names)
        if history.counts[topic] != source.height:
            lost += history.counts[topic] - source.height  # the replay itself left rows out
        counted = _count(source, names, "source").join(
            _count(logged, names, "logged"), on=names, how="full", nulls_equal=True, coalesce=True
        )
        surplus = counted.get_column("logged").fill_null(0).cast(pl.Int64) - counted.get_column("source").fill_null(
            0
        ).cast(pl.Int64)
        lost += -int(surplus.filter(surplus < 0).sum())
        duplicated += int(surplus.filter(surplus > 0).sum())
    return lost, duplicated


def _source(history: History, streams: Mapping[str, Stream]) -> dict[str, pl.DataFrame]:
    payloads: dict[str, list[bytes]] = defaultdict(list)
    for _, topic, _, payload in history.records():
        payloads[topic].append(payload)
    decoders = {topic: Decoder(streams[topic]) for topic in payloads}
    return {topic: decoders[topic].columns(decoders[topic].decode(rows)[0]) for topic, rows in payloads.items()}


def _count(frame: pl.DataFrame, names: list[str], column: str) -> pl.DataFrame:
    return frame.group_by(names).agg(pl.len().alias(column))
