"""The keys of a table's rows, as the keys of its records have them."""

from __future__ import annotations

import typing
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.event import INT64, plain_value
from headrace.bus.message import problem
from headrace.errors import CodecError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from headrace.bus.event import Event

_BETWEEN = "|"
"""It stands between the key fields in the record keys of ``EventProducer``."""


class TableKeys:
    """The key fields of a table's rows. ``kind`` is a struct type with these fields alone."""

    def __init__(self, event: type[Event], names: Sequence[str]) -> None:
        hints = typing.get_type_hints(event, include_extras=True)
        encoded = {info.name: info.encode_name for info in msgspec.structs.fields(event)}
        self.names = tuple(names)
        self._hints = [hints[name] for name in names]
        members = [(name, hints[name], msgspec.field(name=encoded[name])) for name in names]
        self.kind: Any = msgspec.defstruct("RowKey", members, gc=False)

    def read(self, key: bytes | None) -> Any:
        """Return the key in the key of a record. A record without a key has nulls.

        The bytes are a JSON object with the key fields, with Debezium's wrapper of ``schema`` and ``payload`` or
        without it, or the values themselves: one of them also as JSON text, several with ``|`` between them. Raises
        CodecError for all other bytes.
        """
        if key is None:
            return self.kind(*[None for _ in self.names])
        try:
            return self._of_object(key) if key.lstrip()[:1] == b"{" else self._of_text(key)
        except (MemoryError, CodecError):
            raise
        except Exception as error:
            raise CodecError(f"The record's key is not that of a row, {self._wanted}: {problem(error)}") from error

    def written(self, values: Iterable[object]) -> bytes:
        """Return the key of a record: the values, or a JSON object if the values would be read as another key.

        Text such as ``"a"`` or ``{a``, or several fields with ``|`` in one of them, would be.
        """
        plain = [plain_value(value) for value in values]
        text = _BETWEEN.join(map(str, plain)).encode()
        with suppress(CodecError):
            if list(map(str, self.values(self.read(text)))) == list(map(str, plain)) and None not in plain:
                return text
        return msgspec.json.encode(self.kind(*plain))

    def values(self, key: Any) -> list[Any]:
        """Return the values of a key in the order of the names. Raises CodecError for one that no column holds."""
        values = [plain_value(getattr(key, name)) for name in self.names]
        for name, value in zip(self.names, values, strict=True):
            if isinstance(value, int) and value not in INT64:
                raise CodecError(f"The key field {name!r} does not fit into 64 bits")
        return values

    @property
    def _wanted(self) -> str:
        return " and ".join(map(repr, self.names))

    def _of_object(self, key: bytes) -> Any:
        found = msgspec.json.decode(key)
        if isinstance(found.get("payload"), dict) and "schema" in found:
            found = found["payload"]
        return msgspec.convert(found, self.kind)

    def _of_text(self, key: bytes) -> Any:
        text = key.decode()
        if len(self.names) == 1 and text[:1] == text[-1:] == '"':
            text = msgspec.json.decode(key, type=str)
        parts = [text] if len(self.names) == 1 else text.split(_BETWEEN)
        if len(parts) != len(self.names):
            raise CodecError(f"The record's key is not that of a row: {len(parts)} values, wanted {self._wanted}")
        return self.kind(
            *[msgspec.convert(part, hint, strict=False) for part, hint in zip(parts, self._hints, strict=True)]
        )
