"""Reading headrace's own messages: JSON with a ``format`` number. A release refuses newer formats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from headrace.errors import CodecError, NewerFormatError

if TYPE_CHECKING:
    from types import UnionType


class VersionedMessage(Protocol):
    """A message with the number of its format."""

    @property
    def format(self) -> int:
        """The format number, counted from 1. It grows when an older reader would misread the message."""
        ...


class _FormatNumber(msgspec.Struct):
    format: int = 1


T = TypeVar("T", bound=VersionedMessage)
_FORMAT = msgspec.json.Decoder(_FormatNumber)


def decode(data: bytes | None, kind: type[T] | UnionType, newest: int, what: str) -> T:
    """Return the message of this kind in these bytes. ``newest`` is the latest format that this release reads.

    ``what`` names the message in errors, such as "a retrain request". Raises NewerFormatError if the number
    ``format`` is later, without a look at the other fields, and CodecError for bytes that are not such a message.
    """
    try:
        found = _FORMAT.decode(data or b"").format
        if found > newest:
            message = f"{what} has format {found}, this release reads formats up to {newest}: upgrade headrace"
            raise NewerFormatError(message)
        decoded: T = msgspec.json.decode(data or b"", type=kind)
    except msgspec.MsgspecError as error:
        message = f"these bytes are not {what}: {error}"
        raise CodecError(message) from error
    return decoded
