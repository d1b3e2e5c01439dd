"""Messages on ``headrace.control``: the injected clock's ticks in a replay, and requests to flush."""

from __future__ import annotations

import msgspec

from headrace.bus import message
from headrace.errors import CodecError, NewerFormatError

FORMAT = 1


class Tick(msgspec.Struct, frozen=True, tag_field="type", tag="tick"):
    """It is ``t_us`` (microseconds UTC, event time) now: rules are evaluated at this time."""

    t_us: int
    format: int = FORMAT


class FlushRequest(msgspec.Struct, frozen=True, tag_field="type", tag="flush"):
    """Every worker commits to the event log what it has folded."""

    reason: str = ""
    format: int = FORMAT


ControlMessage = Tick | FlushRequest


def decode_control(data: bytes) -> ControlMessage | None:
    """The message, or None for one of a type that this version does not know. Raises NewerFormatError."""
    try:
        return message.decode(data, ControlMessage, FORMAT, "a control message")
    except NewerFormatError:
        raise
    except CodecError:
        return None
