"""Reading headrace's own messages: JSON with a ``format`` number. A release refuses newer formats.

Anybody may write to a topic, so any bytes may come. Whatever reading them raises becomes one error: CodecError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import msgspec

from headrace.errors import CodecError, NewerFormatError

if TYPE_CHECKING:
    from types import UnionType

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A number in a message. JSON has larger ones, which no column and no store can hold."""


class VersionedMessage(Protocol):
    """A message with the number of its format."""

    @property
    def format(self) -> int:
        """The format number, counted from 1. It grows when an older reader would misread the message."""
        ...


class _FormatNumber(msgspec.Struct):
    format: int = 1


T = TypeVar("T", bound=VersionedMessage)


def decode(data: bytes | None, kind: type[T] | UnionType, newest: int, what: str) -> T:
    """Return the message of this kind in these bytes. ``newest`` is the latest format that this release reads.

    ``what`` names the message in errors, such as "a retrain request". Raises NewerFormatError if the number
    ``format`` is later, without a look at the other fields, and CodecError for all other bytes that are not such a
    message. No bytes raise anything else.
    """
    found = _decoded(data, _FormatNumber, what).format
    if found > newest:
        raise NewerFormatError(
            f"{what} has format {found}, this release reads formats up to {newest}: upgrade headrace"
        )
    decoded: T = _decoded(data, kind, what)
    return decoded


def _decoded(data: bytes | None, kind: Any, what: str) -> Any:
    try:
        return msgspec.json.decode(data or b"", type=kind)
    except MemoryError:  # these bytes are not to blame
        raise
    except Exception as error:
        raise CodecError(f"these bytes are not {what}: {problem(error)}") from error


def problem(error: Exception) -> str:
    """Return what an error says about bytes that could not be read."""
    match error:
        case RecursionError():
            return "the JSON is nested too deeply"
        case UnicodeDecodeError():
            return f"a text is not {error.encoding}"
        case _:
            return str(error) or type(error).__name__
