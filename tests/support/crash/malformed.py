"""Records that are no payments, in each way that a producer finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


def malformed(fields: dict[str, Any], choose: random.Random) -> bytes | None:
    """What became of an event with these fields."""
    return choose.choice(_WAYS)(fields, choose)


def _without(name: str) -> Callable[[dict[str, Any], random.Random], bytes]:
    return lambda fields, _: _json({key: value for key, value in fields.items() if key != name})


def _with(**changed: Any) -> Callable[[dict[str, Any], random.Random], bytes]:
    return lambda fields, _: _json(fields | changed)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


_WAYS: list[Callable[[dict[str, Any], random.Random], bytes | None]] = [
    lambda _, choose: choose.randbytes(choose.randrange(1, 200)),
    lambda _fields, _: b"",
    lambda _fields, _: None,
    lambda _fields, _: b"broken",
    lambda fields, choose: _json(fields)[: choose.randrange(1, 20)],
    lambda fields, _: _json(fields) + b"}",
    lambda fields, _: _json(fields) + b"\n" + _json(fields),
    lambda fields, _: _json([fields]),
    lambda fields, _: _json(fields).replace(b'"u', b'"\xff\xfe'),
    lambda fields, _: b"\x00\x00\x00\x00\x07" + _json(fields),
    lambda _fields, _: b'{"user":' * 5_000,
    lambda fields, choose: _json(fields | {"user": "x" * choose.randrange(10_000, 30_000)})[:-1],
    _without("user"),
    _without("at"),
    _without("cents"),
    _with(user=None),
    _with(user=7),
    _with(cents="12"),
    _with(cents=1.5),
    _with(cents=10**30),
    _with(cents=float("nan")),
    _with(at="yesterday"),
    _with(at="2020-13-45T00:00:00Z"),
    _with(at="2031-01-01T00:00:00+00:00"),  # years after its record
]
