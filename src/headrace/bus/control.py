"""The messages on the topic ``control``: requests to flush, and the ticks of the injected clock in a replay."""

from __future__ import annotations

import msgspec

from headrace.base.times import Instant
from headrace.bus import message

FORMAT = 1


class Tick(msgspec.Struct, frozen=True, tag_field="type", tag="tick"):
    """A tick of the injected clock: the time is now ``t_us`` (event time, in microseconds UTC).

    Trainers evaluate their rules at this time.
    """

    t_us: Instant
    format: int = FORMAT


class FlushRequest(msgspec.Struct, frozen=True, tag_field="type", tag="flush"):
    """A request that each worker commits everything that was sent before this message. ``reason`` is for people."""

    reason: str = ""
    format: int = FORMAT


ControlMessage = Tick | FlushRequest


def decode_control(data: bytes | None) -> ControlMessage:
    """Return the message in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, ControlMessage, FORMAT, "a control message")
