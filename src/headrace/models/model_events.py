"""Model events: a version was published, promoted, rolled back to, or retired; and what applications answer to them.

On the bus model events are CloudEvents 1.0 in Kafka's binary mode: attributes in ``ce_*`` headers, JSON in the value,
and the model's name as the record key. Types: ``headrace.model.published``, ``.promoted``, ``.rolled_back`` and
``.retired``. Acknowledgements are plain JSON.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from cloudevents.core.bindings import kafka
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from msgspec import UNSET, UnsetType

from headrace.base.times import Instant, epoch_us, utc_datetime
from headrace.bus import message
from headrace.bus.message import Int64, headers_of, problem
from headrace.errors import CodecError, NewerFormatError
from headrace.models.prediction_task import BINARY, PredictionTask

if TYPE_CHECKING:
    from datetime import datetime

    from confluent_kafka import Message as KafkaMessage

FORMAT = 6
"""The latest format. A publication has the smallest format that says all: see :func:`format_of`."""
ACKNOWLEDGEMENT_FORMAT = 1
_PREFIX = "headrace.model."


class ArtifactRef(msgspec.Struct, frozen=True, kw_only=True):
    """The address of the estimator's bytes, their digest, and the hash of their content."""

    uri: str
    digest: str
    content_hash: str


class ManifestRef(msgspec.Struct, frozen=True, kw_only=True):
    """The address of the manifest, and its hash."""

    uri: str
    hash: str


class ViewRef(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a feature view, and the request fields that make its entity key, in order."""

    name: str
    spec_hash: str
    keys: list[str]


class OwnEventRef(msgspec.Struct, frozen=True, kw_only=True):
    """The rule for a request's own event, in the views that are made from the requests' topic."""

    rule: Literal["included", "excluded"]
    topic: str
    views: list[str]


class ServiceRef(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that an application needs to look this model's features up, without definition code.

    ``columns`` are the feature columns in the order of the training set; ``request_features`` follow them.
    ``on_demand`` is that of the service's spec: the expressions of the last columns. ``own_event`` is there if the
    requests and a view come from one topic. ``categories`` are the inputs that the estimator gets as categories.
    """

    name: str
    hash: str
    views: list[ViewRef]
    columns: list[str]
    request_features: list[str]
    key: str
    at: str
    on_demand: dict[str, Any] = {}
    own_event: OwnEventRef | None = None
    categories: list[str] = []


def format_of(
    service: ServiceRef, *, needs_approval: bool = False, task: PredictionTask = BINARY, has_lists: bool = False
) -> int:
    """Return the format of a publication: the smallest that says all.

    It is 6 with categories and with features that are lists or vectors, 5 for another task than ``binary``, 4 if the
    version waits for an approval, 3 with a rule for the own event, 2 with on-demand features, else 1. An application
    that reads smaller formats only would serve such a version wrongly, so it must not load it.
    """
    if service.categories or has_lists:
        return 6
    if task.name != "binary":
        return 5
    if needs_approval:
        return 4
    if service.own_event is not None:
        return 3
    return 2 if service.on_demand else 1


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """The cause of a new version: the rule that fired and its reason."""

    rule: str
    reason: str
    decision: str | None = None


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """A version that passed its gate. ``expects``: id of the event that was live when it was judged, or null.

    ``lifts`` is the id of the pin that ends with it: without it a publication is void while a version is pinned.
    ``approval="wanted"``: the version waits, and is not live until it is promoted. ``task`` is left out if it is
    ``binary``. ``gated_to_us`` is the time of the newest request that the fit was trained on that passed the gate: the
    version itself is a later fit, on all rows up to ``trained_to_us``. An earlier release does not say it.
    """

    format: int = 1
    version: Int64
    artifact: ArtifactRef
    service: ServiceRef
    manifest: ManifestRef
    metrics: dict[str, float]
    gate: dict[str, Any]
    cause: Cause
    request_id: str
    trained_to_us: Instant
    expects: str | None
    run: str | None = None
    lifts: str | UnsetType = UNSET
    approval: Literal["wanted"] | UnsetType = UNSET
    task: PredictionTask | UnsetType = UNSET
    gated_to_us: Instant | UnsetType = UNSET

    @property
    def predicts(self) -> PredictionTask:
        """The task of the version."""
        return BINARY if self.task is UNSET else self.task


class RolledBack(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback: ``version`` becomes live. ``pin`` holds it until the same event comes with ``pin`` false.

    ``lifts`` is the id of the pin that such an event removes: it is void if another pin has come meanwhile. ``by`` says
    who did it.
    """

    format: int = 1
    version: Int64
    reason: str
    pin: bool = True
    lifts: str | UnsetType = UNSET
    by: str | UnsetType = UNSET


class Promoted(msgspec.Struct, frozen=True, kw_only=True):
    """A person made a published version live, also one that waited for approval. It is not pinned."""

    format: int = 1
    version: Int64
    reason: str
    by: str | UnsetType = UNSET


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is never to be live again. Its views may go once no other version names them."""

    format: int = 1
    version: Int64
    reason: str
    by: str | UnsetType = UNSET


ModelEventData = Published | Promoted | RolledBack | Retired
_KINDS: dict[str, type[ModelEventData]] = {
    "published": Published,
    "promoted": Promoted,
    "rolled_back": RolledBack,
    "retired": Retired,
}


class ModelEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event of one model. ``id`` is unique. ``at_us`` is the time of the decision on the injected clock."""

    id: str
    model: str
    at_us: int
    data: ModelEventData

    @property
    def at(self) -> datetime:
        """The time of the decision, UTC."""
        return utc_datetime(self.at_us)

    @property
    def kind(self) -> str:
        """``published``, ``promoted``, ``rolled_back`` or ``retired``."""
        return next(kind for kind, type_ in _KINDS.items() if isinstance(self.data, type_))


@dataclass(frozen=True)
class ModelEventRecord:
    """A Kafka record of a model event: key, headers and value."""

    key: bytes
    headers: dict[str, bytes]
    value: bytes


def encode(event: ModelEvent) -> ModelEventRecord:
    """Return the record that carries an event."""
    cloud_event = CloudEvent(
        {
            "specversion": "1.0",
            "id": event.id,
            "source": f"/headrace/models/{event.model}",
            "type": _PREFIX + event.kind,
            "subject": str(event.data.version),
            "time": utc_datetime(event.at_us),
            "datacontenttype": "application/json",
        },
        msgspec.json.encode(event.data, order="deterministic"),
    )
    binary = kafka.to_binary(cloud_event, JSONFormat(), key_mapper=lambda _: event.model)
    return ModelEventRecord(event.model.encode(), binary.headers, binary.value)


def decode(record: ModelEventRecord) -> ModelEvent:
    """Return the event in a record. Raises CodecError for anything else, with the reason."""
    try:
        cloud_event = kafka.from_binary(kafka.KafkaMessage(record.headers, None, b""), JSONFormat(), CloudEvent)
        kind = _data_type(cloud_event.get_type())
        data = cast("ModelEventData", message.decode(record.value, kind, FORMAT, "a model event"))
        at = cloud_event.get_time()
        if at is None or "ce_time" not in record.headers:  # the library fills an absent time with now
            raise ValueError("it has no ce_time")  # noqa: TRY301 - one place that words it
        return ModelEvent(id=cloud_event.get_id(), model=record.key.decode(), at_us=epoch_us(at), data=data)
    except (NewerFormatError, MemoryError):
        raise
    except Exception as error:
        said = f"a record is not a model event that this release can read: {problem(error)}"
        raise CodecError(said) from error


def decode_message(found: KafkaMessage) -> ModelEvent:
    """Return the event in a record that was read from Kafka. Raises CodecError for anything else, with the reason."""
    return decode(record_of(found))


def record_of(found: KafkaMessage) -> ModelEventRecord:
    """Return the key, headers and value of a record. Raises CodecError if they cannot be had."""
    headers = {name: value or b"" for name, value in headers_of(found)}
    return ModelEventRecord(found.key() or b"", headers, found.value() or b"")


class Acknowledgement(msgspec.Struct, frozen=True, kw_only=True):
    """An application's answer to a model event: the version is loaded, or why it is not.

    One message on the topic ``model-acks``; its record key is the model. ``reason`` is empty when ``ok``.
    """

    format: int = ACKNOWLEDGEMENT_FORMAT
    application: str
    model: str
    version: Int64
    event_id: str
    ok: bool
    reason: str = ""
    at_us: Instant


def encode_acknowledgement(acknowledgement: Acknowledgement) -> bytes:
    """Return the JSON of an acknowledgement."""
    return msgspec.json.encode(acknowledgement, order="deterministic")


def decode_acknowledgement(data: bytes | None) -> Acknowledgement:
    """Return the acknowledgement in these bytes. Raises CodecError."""
    return message.decode(data, Acknowledgement, ACKNOWLEDGEMENT_FORMAT, "an acknowledgement of a model event")


def _data_type(name: str) -> type[ModelEventData]:
    kind = _KINDS.get(name.removeprefix(_PREFIX)) if name.startswith(_PREFIX) else None
    if kind is None:
        said = f"its type is {name!r}, known are {[_PREFIX + known for known in _KINDS]}"
        raise ValueError(said)
    return kind
