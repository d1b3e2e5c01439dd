"""Records of a table to rows: upserts have the fields of the row, deletes its key alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from confluent_kafka import Message

from headrace.bus.message import problem
from headrace.bus.stream_spec import AVAILABLE_AT, DELETE, OPERATION, UPSERT
from headrace.bus.table import Table
from headrace.errors import CodecError, TransientError
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.formats.record_format import AwaitedSchema
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.streams.plane.record_judge import PartitionRun


def judge_of(stream: Stream, schemas: SchemaStore | None = None) -> RecordJudge:
    """Return the judge of a stream's or a table's records."""
    return TableJudge(stream, schemas) if isinstance(stream, Table) else RecordJudge(stream, schemas)


def _earlier(of_key: AwaitedSchema | None, of_value: AwaitedSchema | None) -> AwaitedSchema | None:
    if of_key is None or of_value is None:
        return of_key or of_value
    return min(of_key, of_value)


class TableJudge(RecordJudge):
    """Gives each record of a table its verdict and its operation. Both depend on the record and the spec alone."""

    def __init__(self, table: Table, schemas: SchemaStore | None = None) -> None:
        super().__init__(table, schemas)
        self._table, self._keys = table, table.table_keys
        self._deletes = table.format.deletes(self._keys, schemas)

    def awaited(self, messages: Sequence[Message]) -> AwaitedSchema | None:
        """Return the first record that cannot be judged yet, for the schema of its value or of its key."""
        if not self._table.format.uses_schemas:
            return None
        return _earlier(self._deletes.awaited(list(map(Message.key, messages))), super().awaited(messages))

    def unregistered(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> AwaitedSchema | None:
        """Return the first record of whose schemas one is not registered."""
        return _earlier(self._deletes.unregistered(keys), super().unregistered(keys, values))

    def may_change(self, keys: Sequence[bytes | None], values: Sequence[bytes | None]) -> bool:
        """Return whether one of these rejected records could be accepted if one of its schemas were registered now."""
        return self._deletes.may_change(keys) or super().may_change(keys, values)

    def judge(self, runs: Sequence[PartitionRun], records: PartitionRecords) -> pl.DataFrame:
        """Return the log's rows of records of several partitions, run by run."""
        rows = super().judge(runs, records)
        if not self._table.has_event_time:
            return rows
        deleted = pl.col(OPERATION) == DELETE
        at = pl.when(deleted).then(AVAILABLE_AT).otherwise(self._table.event_time)
        return rows.with_columns(at.alias(self._table.event_time))

    def _fields(self, records: PartitionRecords) -> tuple[pl.DataFrame, dict[int, str]]:
        keys, errors = self._deleted(records)
        if keys or errors:
            fields, of_rows = self._of_upserts(records, [row for row in range(len(records.values)) if row not in keys])
            errors = of_rows | errors
            fields = fields.with_columns(self._key_columns(fields, keys))
        else:
            fields, errors = super()._fields(records)
        operations = [DELETE if row in keys else UPSERT for row in range(fields.height)]
        return fields.insert_column(0, pl.Series(OPERATION, operations, pl.String)), errors

    def _deleted(self, records: PartitionRecords) -> tuple[dict[int, Sequence[Any]], dict[int, str]]:
        """Return the key of each row that a record deletes, and the error of each delete without one, by position."""
        keys: dict[int, Sequence[Any]] = {}
        errors: dict[int, str] = {}
        headers = records.headers or [()] * len(records.values)
        for row, (key, value, own) in enumerate(zip(records.keys, records.values, headers, strict=True)):
            try:
                found = self._deletes.key(key, value, own)
                if found is not None:
                    keys[row] = self._keys.values(found)
            except (MemoryError, TransientError):
                raise
            except Exception as error:  # noqa: BLE001 - any bytes may come
                errors[row] = str(error) if isinstance(error, CodecError) else problem(error)
        return keys, errors

    def _of_upserts(self, records: PartitionRecords, places: Sequence[int]) -> tuple[pl.DataFrame, dict[int, str]]:
        """Return the fields of the records at these places, null in all others, and the errors by position."""
        headers = [records.headers[place] for place in places] if records.headers else ()
        rows, positions, errors = self._decoder.decode([records.values[place] for place in places], headers)
        found = np.array(places, np.int64)[positions]
        spread = self._spread(self._decoder.columns(rows), found, len(records.values))
        return spread, {places[position]: error for position, error in errors.items()}

    def _key_columns(self, fields: pl.DataFrame, keys: Mapping[int, Sequence[Any]]) -> list[pl.Series]:
        """Return the key columns, with the keys of deleted rows."""
        found = []
        for place, name in enumerate(self._keys.names):
            values = fields.get_column(name).to_list()
            for row, key in keys.items():
                values[row] = key[place]
            found.append(pl.Series(name, values, dtype=fields.schema[name]))
        return found
