"""Reading headrace's own messages: JSON with a ``format`` number. A release refuses newer formats.

Anybody may write to a topic, so any bytes may come. Whatever reading them raises becomes one error: CodecError.
"""

from __future__ import annotations

from operator import methodcaller
from typing import TYPE_CHECKING, Annotated, Any, Protocol, TypeVar

import msgspec

from headrace.base.redaction import shortened
from headrace.errors import CodecError, NewerFormatError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import UnionType

    from confluent_kafka import Message

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
_LONGEST_PROBLEM = 2_000
"""Characters. The error of a user's event class may hold all of its bytes, and a dead letter has it in a header."""
_HEADERS = methodcaller("headers")
"""Calls ``headers()`` so that an error that the client leaves behind is raised. A plain call in a loop ignores it."""


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


def headers_of(record: Message) -> Sequence[tuple[str, bytes | None]]:
    """Return the headers of a record that was read. Raises CodecError for a header whose name is not UTF-8.

    For such a name the client raises an error, and then keeps headers that end the process when they are read again.
    So they are replaced: a second call returns none.
    """
    try:
        found: Any = _HEADERS(record)
    except (SystemError, UnicodeDecodeError) as error:
        record.set_headers([])
        raise CodecError("the name of a header is not UTF-8") from error
    return found or ()


def readable_headers(record: Message) -> list[tuple[str, bytes | None]] | None:
    """Return the headers of a record that was read; None if the name of one is no text."""
    try:
        return list(headers_of(record))
    except CodecError:
        return None


def problem(error: Exception) -> str:
    """Return what an error says about bytes that could not be read; a long text loses its middle."""
    match error:
        case RecursionError():
            return "the JSON is nested too deeply"
        case UnicodeDecodeError():
            return f"a text is not {error.encoding}"
        case _:
            return shortened(str(error), _LONGEST_PROBLEM) or type(error).__name__
