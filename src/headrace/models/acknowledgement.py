"""What an application says about a model event: it serves that version now, or why it does not."""

from __future__ import annotations

import msgspec

from headrace.bus import message

FORMAT = 1


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """One message on ``headrace.model-acks``; its record key is the model. ``reason`` is empty when ``ok``."""

    format: int = FORMAT
    application: str
    model: str
    version: int
    event_id: str
    ok: bool
    reason: str = ""
    at_us: int


def encode(acknowledgement: Acknowledgement) -> bytes:
    """The JSON of an acknowledgement."""
    return msgspec.json.encode(acknowledgement, order="deterministic")


def decode(data: bytes) -> Acknowledgement:
    """The acknowledgement in these bytes. Raises CodecError."""
    return message.decode(data, Acknowledgement, FORMAT, "an acknowledgement of a model event")
