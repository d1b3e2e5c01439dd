"""How quickly records of each format become rows, against the format's own decoder in a plain loop."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

import fastavro
import msgspec
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2
from google.protobuf.message_factory import GetMessageClass

from headrace import Avro, CloudEvents, Debezium, Json, JsonSchema, Protobuf
from headrace.bus.codec import Decoder
from headrace.bus.formats.registry_record import HEAD
from headrace.bus.schemas.schema_registry import RegisteredSchema, SchemaKind, SchemaRegistry
from headrace.bus.schemas.schema_store import SchemaStore

from .definitions import Payment, payments
from .rig import console
from .workload import Workload

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.bus.formats.record_format import RecordFormat

    from .options import Options
    from .rig import Rig

BATCH = 20_000


class OneSchema(SchemaRegistry):
    """A registry with the last schema that was registered."""

    url = "memory"
    kept: RegisteredSchema

    def schema(self, schema_id: int) -> RegisteredSchema | None:
        """The one schema."""
        return self.kept if self.kept.id == schema_id else None

    def latest(self, subject: str) -> RegisteredSchema | None:
        """The one schema, whatever the subject."""
        return self.kept if subject else None

    def id_of(self, subject: str, kind: SchemaKind, text: str) -> int:
        """Keep the schema."""
        self.kept = RegisteredSchema(len(subject), kind, text)
        return self.kept.id

    def is_compatible(self, subject: str, kind: SchemaKind, text: str) -> bool:  # noqa: ARG002 - as the port has it
        """Every schema is."""
        return bool(subject and text)


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """Each format and its own decoder in turn, in one process, on the same payments."""
    del rig  # no server takes part
    events = min(options.events, 200_000)
    written = [msgspec.json.decode(value, type=Payment) for _, value, _ in Workload("formats", events).rows.records()]
    return {
        "events": events,
        "formats": {_name(each): measured(each, written, options.repeat) for each in formats()},
    }


def formats() -> list[RecordFormat]:
    """All formats."""
    plain = [Json(), CloudEvents(), CloudEvents(mode="structured"), Debezium()]
    return [*plain, JsonSchema(), Avro(), Protobuf(_message())]


def measured(of: RecordFormat, written: Sequence[Payment], repeat: int) -> dict[str, Any]:
    """Records a second of a stream's decoder, of the format's own one, and their ratio: medians of runs in turn."""
    schemas = SchemaStore(OneSchema())
    values, headers = records(of, written, schemas)
    decoder = Decoder(replace(payments("formats"), format=of), schemas)
    own = own_decoder(of, schemas)
    rates: dict[str, list[float]] = {"ours": [], "own": []}
    for _ in range(repeat):
        rates["ours"].append(_rate(lambda: _decode(decoder, of, values, headers), len(values)))
        rates["own"].append(_rate(lambda: list(map(own, values, headers)), len(values)))
    ours, own_rate = (statistics.median(found) for found in rates.values())
    console.print(f"  {_name(of)}: {ours:,.0f} records/s, {ours / own_rate:.2f} x its own decoder")
    return {"records_per_s": round(ours), "own_per_s": round(own_rate), "ratio": round(ours / own_rate, 2)}


def _name(of: RecordFormat) -> str:
    mode = f" ({of.mode})" if isinstance(of, CloudEvents) else ""
    return f"{type(of).__name__}{mode}"


def records(
    of: RecordFormat, written: Sequence[Payment], schemas: SchemaStore
) -> tuple[list[bytes], list[list[tuple[str, bytes]]]]:
    """The values and the headers of payments in a format."""
    if isinstance(of, Debezium):
        encode = msgspec.json.encode
        return [encode({"before": None, "after": each, "op": "c", "ts_ms": 1}) for each in written], [[]] * len(written)
    writer = of.writer("formats", Payment, schemas)
    found = [writer.write(each, each.ts) for each in written]
    return [each.value for each in found], [list(each.headers.items()) for each in found]


def own_decoder(of: RecordFormat, schemas: SchemaStore) -> Callable[[bytes, Any], Any]:
    """The decoder of the format's own library, which makes its own objects."""
    if isinstance(of, CloudEvents):
        decode = kafka.from_structured_event if of.mode == "structured" else kafka.from_binary_event
        form = JSONFormat()
        return lambda value, headers: decode(kafka.KafkaMessage(dict(headers), None, value), form)
    if isinstance(of, Avro):
        parsed = fastavro.parse_schema(json.loads(_text(schemas)))
        return lambda value, _: fastavro.schemaless_reader(BytesIO(value[HEAD:]), parsed, None)
    if isinstance(of, Protobuf):
        parse = of.message.FromString
        return lambda value, _: parse(value[HEAD + 1 :])
    if isinstance(of, JsonSchema):
        decode_json = msgspec.json.Decoder(Payment).decode
        return lambda value, _: decode_json(value[HEAD:])
    if isinstance(of, Debezium):
        decode_any = msgspec.json.Decoder().decode
        return lambda value, _: decode_any(value)["after"]
    decode_row = msgspec.json.Decoder(Payment).decode
    return lambda value, _: decode_row(value)


def _text(schemas: SchemaStore) -> str:
    found = schemas.registry.latest("formats-value")
    return "" if found is None else found.text


def _decode(decoder: Decoder, of: RecordFormat, values: Sequence[bytes], headers: Sequence[Any]) -> None:
    for start in range(0, len(values), BATCH):
        own = headers[start : start + BATCH] if of.reads_headers else ()
        rows, _, errors = decoder.decode(values[start : start + BATCH], own)
        if errors or not rows:
            raise RuntimeError(f"{of.spec}: {errors}")


def _rate(work: Callable[[], Any], count: int) -> float:
    began = time.perf_counter()
    work()
    return count / (time.perf_counter() - began)


def _message() -> Any:
    """The Protobuf message of a payment, as `protoc` would make it."""
    file = descriptor_pb2.FileDescriptorProto(
        name="payment.proto", package="bench", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    message = file.message_type.add(name="Payment")
    for number, (name, kind, of) in enumerate(
        [("user_id", 9, None), ("ts", 11, ".google.protobuf.Timestamp"), ("amount", 1, None), ("merchant", 9, None)], 1
    ):
        message.field.add(name=name, number=number, type=kind, type_name=of, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("bench.Payment"))
