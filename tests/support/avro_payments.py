"""Payments in Avro, by several schemas with ids of their own, as they come from Kafka."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
from confluent_kafka import Message

from headrace.base.times import epoch_us
from headrace.bus.formats.registry_record import head_of
from tests.support.payments_stream import NOON

SCHEMA_IDS = [1, 2, 3]


def schema(schema_id: int) -> dict[str, Any]:
    """The schema with one of the :data:`SCHEMA_IDS`; all but the first have a field more."""
    return {
        "type": "record",
        "name": f"Payment{schema_id}",
        "fields": [
            {"name": "card", "type": "string"},
            {"name": "amount", "type": "double"},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            *([{"name": "note", "type": "string"}] if schema_id > 1 else []),
        ],
    }


def schema_text(schema_id: int) -> str:
    """The same as a registry has it."""
    return json.dumps(schema(schema_id))


def payment(schema_id: int, amount: float, written_by: int | None = None) -> bytes:
    """The value of a record. ``written_by``: the schema of its content, if the id says another one."""
    target = BytesIO()
    by = fastavro.parse_schema(schema(schema_id if written_by is None else written_by))
    fastavro.schemaless_writer(target, by, {"card": "c", "amount": amount, "at": NOON, "note": "n"})
    return head_of(schema_id) + target.getvalue()


def message(schema_id: int, offset: int, value: bytes | None = None, *, partition: int = 0) -> Message:
    """The record at an offset, which is also its amount; or one with another value."""
    return Message(
        topic="payments",
        partition=partition,
        offset=offset,
        key=b"c",
        value=payment(schema_id, float(offset)) if value is None else value,
        timestamp=(1, epoch_us(NOON) // 1_000),
    )
