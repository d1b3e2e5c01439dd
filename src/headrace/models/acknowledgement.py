"""What an application says about a model event: it serves that version now, or why it does not."""

from __future__ import annotations

import msgspec

from headrace.errors import CodecError

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


_DECODER = msgspec.json.Decoder(Acknowledgement)


def encode(acknowledgement: Acknowledgement) -> bytes:
    """The JSON of an acknowledgement."""
    return msgspec.json.encode(acknowledgement, order="deterministic")


def decode(data: bytes) -> Acknowledgement:
    """The acknowledgement in these bytes. Raises CodecError."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        message = f"not an acknowledgement of a model event: {error}"
        raise CodecError(message) from error
