"""The messages on ``headrace.control``: requests to flush, and the ticks of the injected clock in a replay."""

from __future__ import annotations

import msgspec

from headrace.bus import message
from headrace.errors import CodecError, NewerFormatError

FORMAT = 1


class Tick(msgspec.Struct, frozen=True, tag_field="type", tag="tick"):
    """A tick of the injected clock: the time is now ``t_us`` (event time, in microseconds UTC).

    Trainers evaluate their rules at this time.
    """

    t_us: int
    format: int = FORMAT


class FlushRequest(msgspec.Struct, frozen=True, tag_field="type", tag="flush"):
    """A request that each worker commits everything that was sent before this message. ``reason`` is for people."""

    reason: str = ""
    format: int = FORMAT


ControlMessage = Tick | FlushRequest


def decode_control(data: bytes) -> ControlMessage | None:
    """Return the message, or None if this release does not know its type. Raises NewerFormatError."""
    try:
        return message.decode(data, ControlMessage, FORMAT, "a control message")
    except NewerFormatError:
        raise
    except CodecError:
        return None
