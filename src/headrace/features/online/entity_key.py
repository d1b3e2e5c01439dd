"""Entity keys as bytes, in Feast's serialisation version 3, so that Feast and headrace use the same Redis keys.

``n``, then per join key in sorted order ``type=STRING, length, name``, then per value ``type, length, value``; all
integers little-endian unsigned 32 bit, an int64 value 8 bytes.
"""

from __future__ import annotations

import struct
from numbers import Integral
from typing import TYPE_CHECKING, Any

from headrace.errors import EntityKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_STRING, _INT64 = 2, 4


def serializer(keys: Sequence[Sequence[str]]) -> Callable[[Sequence[Any]], bytes]:
    """Return a function from values, in the order of ``keys`` (pairs of name and kind), to the entity key's bytes."""
    order = sorted(range(len(keys)), key=lambda index: keys[index][0])
    names = [keys[index][0].encode() for index in order]
    prefix = struct.pack("<I", len(keys)) + b"".join(struct.pack("<II", _STRING, len(name)) + name for name in names)
    kinds = [keys[index][1] for index in order]
    if len(keys) == 1:
        (kind,) = kinds
        return lambda values: prefix + _value(kind, values[0])

    def serialize(values: Sequence[Any]) -> bytes:
        return prefix + b"".join(_value(kind, values[index]) for kind, index in zip(kinds, order, strict=True))

    return serialize


def _value(kind: str, value: Any) -> bytes:
    try:
        if kind == "str" and isinstance(value, str):
            encoded = value.encode()
            return struct.pack("<II", _STRING, len(encoded)) + encoded
        if kind == "int" and not isinstance(value, bool) and isinstance(value, Integral):
            return struct.pack("<IIq", _INT64, 8, int(value))
    except (struct.error, UnicodeEncodeError) as error:
        message = f"join key value {value!r} has no bytes: an int has at most 64 bits, a str is valid UTF-8"
        raise EntityKeyError(message) from error
    message = f"join key value {value!r} is {type(value).__name__}; wanted {kind}"
    raise EntityKeyError(message)
