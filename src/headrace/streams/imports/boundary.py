"""The boundary between files and topic: the first record that the topic has. So no event counts twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.bus.kafka_clients import admin
from headrace.bus.source_partition import NO_CLOCK
from headrace.bus.topic_sample import oldest_records
from headrace.bus.topics import existing_incarnations
from headrace.event_log.columns import IMPORTED
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog

_FIRST = "min.__available_at"


def first_in_log(log: EventLog, topic: str) -> int | None:
    """Return when the first row of a topic was available that the event log has from the bus; None if it has none.

    The files whose statistics say that they are the oldest are read, one after the other, until no other can be older.
    Raises OfflineStoreUnavailableError.
    """
    if not log.exists(topic):
        return None
    table = log.table(topic)
    actions: Any = table.get_add_actions(flatten=True)
    files = pl.DataFrame(actions)
    if _FIRST not in files.columns:
        files = files.with_columns(pl.lit(None, pl.Datetime("us", "UTC")).alias(_FIRST))
    found: int | None = None
    for name, least in files.select("path", _FIRST).sort(_FIRST, nulls_last=False).iter_rows():
        if found is not None and least is not None and int(least.timestamp() * 1_000_000) > found:
            break
        with log.storage(topic):
            rows = log.rows(topic, table, [name], ["__available_at", "__topic_id"])
        own = rows.filter(~IMPORTED)
        first = own.get_column("__available_at").dt.epoch("us").min()
        if isinstance(first, int):
            found = first if found is None else min(first, found)
    return found


def first_in_topic(servers: str, stream: Stream, schemas: SchemaStore | None = None) -> int | None:
    """Return when the first record was available that Kafka still has of a stream; None if it has none.

    It is the earliest among the first records of the partitions. Raises BusUnavailableError.
    """
    found = existing_incarnations(admin(servers), [stream.topic]).get(stream.topic)
    if found is None:
        return None
    judge, times = RecordJudge(stream, schemas), list[int]()
    for message in oldest_records(servers, stream.topic):
        records = PartitionRecords.from_messages([message], with_headers=stream.format.reads_headers)
        rows = judge.rows(found.topic_id, message.partition() or 0, records, NO_CLOCK)
        times += rows.get_column("__available_at").to_physical().to_list()
    return min((us for us in times if us != NO_CLOCK), default=None)
