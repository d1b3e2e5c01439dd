"""The format CloudEvents 1.0, as its Kafka binding writes events: in binary or in structured mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from __future__ import annotations

import uuid
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.formats.record_format import Headers, RecordFormat, RecordReader, RecordWriter, WrittenRecord
from headrace.errors import CodecError, DefinitionError

if TYPE_CHECKING:
    from datetime import datetime

    from headrace.bus.event import Event
    from headrace.bus.schemas.schema_store import SchemaStore

ContentMode = Literal["binary", "structured"]
_VERSION, _CONTENT_TYPE, _STRUCTURED = "1.0", "content-type", "application/cloudevents"
_JSON = "application/json"
_MOST_KNOWN, _LONGEST_KNOWN = 100, 200
"""The pairs of headers that are known to be those of binary mode, and the bytes of one."""


@dataclass(frozen=True)
class CloudEvents(RecordFormat):
    """Each record is a CloudEvent 1.0, and its data is the event, in JSON.

    Both modes are read: *binary* (attributes in headers ``ce_…``, data in the value) and *structured* (one JSON object
    with a member ``data``). The record's headers say which it is.

    The arguments are for records that are written. ``mode`` is their mode, ``source`` their source, by default ``/``
    and the topic, and ``event_type`` their type, by default the name of the event class.

    >>> from headrace import CloudEvents, Stream
    >>> from streams.flights import Departure
    >>> departures = Stream("departures", Departure, event_time="departed_at", format=CloudEvents(source="/airport"))
    >>> departures.spec.format
    'cloudevents'
    """

    source: str | None = None
    event_type: str | None = None
    mode: ContentMode = "binary"
    reads_headers = True

    def __post_init__(self) -> None:
        if self.mode not in get_args(ContentMode):
            raise DefinitionError(f"CloudEvents(mode={self.mode!r}): give 'binary' or 'structured'")

    @property
    def spec(self) -> str:
        """The text of it in a stream's spec: what a reader has to know."""
        return "cloudevents"

    def reader(self, kind: Any, schemas: SchemaStore | None = None) -> RecordReader:  # noqa: ARG002 - as the port has it
        """Return a reader of rows of this type."""
        return _CloudEventReader(kind)

    def writer(self, topic: str, event: type[Event], schemas: SchemaStore | None = None) -> RecordWriter:  # noqa: ARG002
        """Return a writer of rows. Each record has a random id of its own."""
        attributes = {"source": self.source or f"/{topic}", "type": self.event_type or event.__name__}
        return _StructuredWriter(attributes) if self.mode == "structured" else _BinaryWriter(attributes)


class _CloudEventReader(RecordReader):
    def __init__(self, kind: Any) -> None:
        self._data = msgspec.json.Decoder(kind).decode
        self._binary: set[tuple[bytes, bytes | None]] = set()
        self._structured = msgspec.json.Decoder(
            msgspec.defstruct(
                "StructuredCloudEvent",
                [
                    ("specversion", str),
                    ("data", kind | UnsetType, UNSET),
                    ("data_base64", str | UnsetType, UNSET),
                    ("datacontenttype", str | None, None),
                ],
                gc=False,
            )
        ).decode

    def row(self, value: bytes, headers: Headers) -> Any:
        content, version = _content_and_version(headers)
        if (content, version) not in self._binary:
            text = content.decode("utf-8", "replace").strip()
            if text.lower().startswith(_STRUCTURED):
                return self._of_structured(value, text)
            _check_binary(text, version)
            if len(self._binary) < _MOST_KNOWN and len(content) <= _LONGEST_KNOWN:
                self._binary.add((content, version))
        return self._data(value)

    def _of_structured(self, value: bytes, content: str) -> Any:
        if _bare(content) != f"{_STRUCTURED}+json":
            raise CodecError(f"The CloudEvent has the form {content!r}; {_STRUCTURED}+json is read, one event a record")
        event: Any = self._structured(value)
        _check_version(event.specversion)
        _check_content(event.datacontenttype or "")
        if event.data is not UNSET:
            return event.data
        if event.data_base64 is UNSET:
            raise CodecError("The CloudEvent has no member `data`")
        return self._data(b64decode(event.data_base64, validate=True))


def _content_and_version(headers: Headers) -> tuple[bytes, bytes | None]:
    """Return the two headers that matter. Their names are compared as CloudEvents libraries do, without case."""
    if headers is None:
        raise CodecError("The record's headers are gone, or the name of one is not UTF-8")
    content, version = b"", None
    for name, found in headers:
        match name.lower():
            case "content-type":
                content = found or b""
            case "ce_specversion":
                version = found or b""
    return content, version


def _check_binary(content: str, version: bytes | None) -> None:
    if version is None:
        raise CodecError(
            "The record is no CloudEvent: it has neither a header `ce_specversion` (binary mode) nor a "
            f"`content-type` {_STRUCTURED}+json (structured mode)"
        )
    _check_version(version.decode("utf-8", "replace"))
    _check_content(content)


def _check_version(version: str) -> None:
    if version != _VERSION:
        raise CodecError(f"The CloudEvent has the version {version!r}; {_VERSION} is read")


def _check_content(content: str) -> None:
    kind = _bare(content)
    if kind and kind != _JSON and not kind.endswith("+json"):
        raise CodecError(f"The data of the CloudEvent is {content!r}; {_JSON} is read")


def _bare(content: str) -> str:
    return content.partition(";")[0].strip().lower()


class _BinaryWriter(RecordWriter):
    def __init__(self, attributes: dict[str, str]) -> None:
        same = {"specversion": _VERSION, **attributes}
        self._same = {
            _CONTENT_TYPE: _JSON.encode(),
            **{f"ce_{name}": content.encode() for name, content in same.items()},
        }

    def write(self, row: Any, at: datetime) -> WrittenRecord:
        own = {"ce_id": str(uuid.uuid4()).encode(), "ce_time": at.isoformat().encode()}
        return WrittenRecord(msgspec.json.encode(row), self._same | own)


class _StructuredWriter(RecordWriter):
    def __init__(self, attributes: dict[str, str]) -> None:
        self._same = {"specversion": _VERSION, **attributes, "datacontenttype": _JSON}
        self._headers = {_CONTENT_TYPE: f"{_STRUCTURED}+json; charset=UTF-8".encode()}

    def write(self, row: Any, at: datetime) -> WrittenRecord:
        event = {**self._same, "id": str(uuid.uuid4()), "time": at, "data": row}
        return WrittenRecord(msgspec.json.encode(event), self._headers)
