"""Protobuf messages of a payment, without protoc."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2
from google.protobuf.message_factory import GetMessageClass

TEXT = """
syntax = "proto3";
package shop;  // message Wrong {}
import "google/protobuf/timestamp.proto";
/* message Wrong { } */
message Refund { string card = 1; }
message Payment {
  string card = 1;
  double amount = 2;
  google.protobuf.Timestamp at = 3;
  optional string note = 4;
  message Line { string message = 1; int64 cents = 2; }
  repeated Line lines = 5;
  Channel channel = 6;
}
enum Channel { UNKNOWN = 0; WEB = 1; }
"""


def _messages() -> tuple[Any, Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="shop/payment.proto", package="shop", syntax="proto3", dependency=["google/protobuf/timestamp.proto"]
    )
    _field(file.message_type.add(name="Refund"), "card", 1, "string")
    payment = file.message_type.add(name="Payment")
    _field(payment, "card", 1, "string")
    _field(payment, "amount", 2, "double")
    _field(payment, "at", 3, "message", ".google.protobuf.Timestamp")
    payment.oneof_decl.add(name="_note")
    note = _field(payment, "note", 4, "string")
    note.proto3_optional, note.oneof_index = True, 0
    line = payment.nested_type.add(name="Line")
    _field(line, "message", 1, "string")
    _field(line, "cents", 2, "int64")
    _field(payment, "lines", 5, "message", ".shop.Payment.Line").label = 3
    _field(payment, "channel", 6, "enum", ".shop.Channel")
    channel = file.enum_type.add(name="Channel")
    channel.value.add(name="UNKNOWN", number=0)
    channel.value.add(name="WEB", number=1)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    names = ("shop.Payment", "shop.Refund", "shop.Payment.Line")
    first, second, third = (GetMessageClass(pool.FindMessageTypeByName(name)) for name in names)
    return first, second, third


def _field(message: Any, name: str, number: int, kind: str, of: str | None = None) -> Any:
    types = {"string": 9, "double": 1, "message": 11, "int64": 3, "enum": 14}
    return message.field.add(name=name, number=number, type=types[kind], type_name=of, label=1)


PaymentMessage, RefundMessage, LineMessage = _messages()
