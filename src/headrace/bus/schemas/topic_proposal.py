"""The event class and the stream of a topic, proposed from a sample of its records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.message import headers_of
from headrace.bus.schemas.inferred_event import inferred_event, key_field
from headrace.bus.schemas.proposed_event import class_name, source
from headrace.errors import CodecError, TerminalError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message


def proposal(topic: str, records: Sequence[Message]) -> str:
    """Return the source text. Raises TerminalError if the records are not JSON objects."""
    values = [record for record in records if record.value() is not None]
    if not values:
        raise TerminalError(f"{topic} has no record with a value to look at")
    first = values[0].value() or b""
    if first[:1] == b"\0":
        raise TerminalError(
            f"the records of {topic} begin with a zero byte and the id of a schema: `headrace schema pull "
            f"{topic}-value` makes the event class from the schema registry"
        )
    pairs = [(record, row) for record in values if isinstance(row := _decoded(record), dict)]
    if not pairs:
        raise TerminalError(
            f"no record of {topic} is a JSON object; one of the newest begins with {first[:40]!r}: write the event "
            "class yourself, as docs/reference/formats.md says"
        )
    rows, written = _unwrapped(pairs)
    event = inferred_event(rows, class_name(topic.rpartition(".")[2]))
    names = event.names()
    times = [each.wire_name for each in event.fields if each.is_time]
    key = key_field(rows, [record.key() for record, _ in pairs]) if len(rows) == len(pairs) else None
    found = {
        "event_time": f'"{names[times[0]]}"' if times else None,
        "key": None if key is None else f'"{names[key]}"',
        "format": written,
    }
    stream = {name: text for name, text in found.items() if text is not None}
    left_out = len(records) - len(rows)
    said = f"# Inferred from {len(rows):,} of the newest records of {topic}"
    more = f"; {left_out:,} others have no JSON object or no row, and will be dead letters." if left_out else "."
    return f"{said}{more}\n\n{source(event, stream, topic)}"


def _decoded(record: Message) -> Any:
    try:
        return msgspec.json.decode(record.value() or b"")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _unwrapped(pairs: Sequence[tuple[Message, Any]]) -> tuple[list[dict[str, Any]], str | None]:
    """Return the rows within their envelopes, and the format of these; the objects themselves if there are none."""
    rows = [row for _, row in pairs]
    changes = [_change(row) for row in rows]
    if all(change is not None for change in changes):
        after = [change["after"] for change in changes if change is not None and isinstance(change["after"], dict)]
        return after, "Debezium()"
    names = [_header_names(record) for record, _ in pairs]
    if all("ce_specversion" in own for own in names):
        return rows, "CloudEvents()"
    if all(isinstance(row.get("data"), dict) and "specversion" in row for row in rows):
        return [row["data"] for row in rows], "CloudEvents()"
    return rows, None


def _change(row: dict[str, Any]) -> dict[str, Any] | None:
    """Return the envelope of a change, if the row is one."""
    payload = row.get("payload")
    found = payload if isinstance(payload, dict) else row
    return found if "op" in found and "after" in found else None


def _header_names(record: Message) -> set[str]:
    try:
        return {name.lower() for name, _ in headers_of(record)}
    except CodecError:
        return set()
