"""The names of the messages in a Protobuf schema, by their places: a record says which message it is by its place."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from headrace.errors import CodecError, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MessagePlace = tuple[int, ...]
"""The number of a message in its file, counted from 0. A nested message has the numbers of those around it first."""
_LEFT_OUT = re.compile(r"""//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", re.DOTALL)
_TOKEN = re.compile(r"[\w.]+|[{};]")
_MOST_BYTES = 10
"""The bytes of a number of 64 bits."""


def message_names(schema: str) -> dict[MessagePlace, str]:
    """Return the full name of each message, by its place.

    A registry has a schema as text, or as the base64 of a FileDescriptorProto.

    >>> message_names('package shop; message Payment { message Line {} } message Refund { string message = 1; }')
    {(0,): 'shop.Payment', (0, 0): 'shop.Payment.Line', (1,): 'shop.Refund'}
    """
    try:
        packed = b64decode(schema, validate=True)
    except (binascii.Error, ValueError):
        return dict(_of_text(schema))
    file = require("google.protobuf.descriptor_pb2", "schemas").FileDescriptorProto.FromString(packed)
    return dict(_of_messages(file.message_type, file.package, ()))


def indexes(value: bytes, start: int) -> tuple[MessagePlace, int]:
    """Return the place of a record's message, and where the message begins. Raises CodecError."""
    count, start = _number(value, start)
    if count == 0:
        return (0,), start
    if not 0 < count <= len(value):
        raise CodecError(f"The record has {count} message indexes")
    found = []
    for _ in range(count):
        index, start = _number(value, start)
        found.append(index)
    return tuple(found), start


def index_bytes(place: MessagePlace) -> bytes:
    """Return the bytes that say the place of a message."""
    return b"\0" if place == (0,) else b"".join(map(_bytes, (len(place), *place)))


def _of_messages(messages: Sequence[Any], package: str, outer: MessagePlace) -> Iterator[tuple[MessagePlace, str]]:
    for place, message in enumerate(messages):
        name = f"{package}.{message.name}" if package else message.name
        yield (*outer, place), name
        yield from _of_messages(message.nested_type, name, (*outer, place))


def _of_text(text: str) -> Iterator[tuple[MessagePlace, str]]:
    """Yield the messages of a .proto text. Each brace opens a message, or something that is none."""
    tokens = _TOKEN.findall(_LEFT_OUT.sub(" ", text))
    package = next((name for word, name in pairwise(tokens) if word == "package"), "")
    around: list[tuple[MessagePlace, str]] = [((), package)]
    counts: dict[MessagePlace, int] = {}
    for place, sign in enumerate(tokens):
        if sign == "{":
            outer, name = around[-1]
            opened = _opened(tokens[max(0, place - 3) : place])
            if opened is not None:
                own = (*outer, counts.get(outer, 0))
                counts[outer] = own[-1] + 1
                around.append((own, f"{name}.{opened}" if name else opened))
                yield around[-1]
            else:
                around.append(around[-1])
        elif sign == "}" and len(around) > 1:
            around.pop()


def _opened(before: Sequence[str]) -> str | None:
    """Return the name of the message that a brace after these signs opens; None if it opens something else.

    A group, such as ``optional group Line = 1 {``, is a message too.
    """
    match before:
        case [*_, "message", name] | ["group", name, _]:
            return name
    return None


def _number(value: bytes, start: int) -> tuple[int, int]:
    """Return a zigzag number, and the position after it."""
    found = shift = 0
    for position, byte in enumerate(value[start : start + _MOST_BYTES], start + 1):
        found, shift = found | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            return found >> 1 ^ -(found & 1), position
    if len(value) - start >= _MOST_BYTES:
        raise CodecError(f"A message index of the record has more than {_MOST_BYTES} bytes")
    raise CodecError("The record ends within its message indexes")


def _bytes(number: int) -> bytes:
    left, found = number << 1, bytearray()
    while left > 0x7F:  # noqa: PLR2004
        found.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*found, left])
