"""Messages on ``headrace.control``: the injected clock's ticks in a replay, and requests to flush."""

from __future__ import annotations

import msgspec


class Tick(msgspec.Struct, frozen=True, tag_field="type", tag="tick"):
    """It is ``t_us`` (microseconds UTC, event time) now: rules are evaluated at this time."""

    t_us: int
    format: int = 1


class Flush(msgspec.Struct, frozen=True, tag_field="type", tag="flush"):
    """Every worker commits to the event log what it has folded."""

    reason: str = ""
    format: int = 1


Control = Tick | Flush
_DECODER: msgspec.json.Decoder[Control] = msgspec.json.Decoder(Control)


def decode_control(data: bytes) -> Control | None:
    """The message, or None for one of a type that this version does not know."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError:
        return None
