"""Look-ups of a model whose requests are events of its own views: the request's event counts, or it does not."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from headrace.base.times import SECOND, duration_us
from headrace.bus.source_partition import RecordPlace, SourcePartition
from headrace.errors import RequestValueError
from headrace.serving.left_out import LeftOutRecords

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from headrace.base.times import Duration
    from headrace.bus.topics import TopicIncarnation
    from headrace.models.model_events import OwnEventRef, ServiceRef
    from headrace.serving.feature_vectors import FeatureVectors
    from headrace.serving.features import FeatureClient

_POLL_S = 0.005


class OwnEventLookUp:
    """Looks up the features of a model's requests as its rule for the own event says.

    ``included``: looks up again until the views have counted each request's record, for at most ``bound``; after it the
    status of a view that has not is ``behind``. ``excluded``: leaves out each record that the views have counted.
    """

    def __init__(
        self,
        features: FeatureClient,
        *,
        bound: Duration = "1s",
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._features = features
        self._bound_s = duration_us(bound) / SECOND
        self._monotonic, self._sleep = monotonic, sleep

    def look_up(
        self,
        service: ServiceRef,
        requests: Sequence[Mapping[str, Any]],
        records: Sequence[RecordPlace | None],
        as_of: datetime | None = None,
    ) -> FeatureVectors:
        """Return the views' features of each request. ``records`` are the places of the requests' own records.

        Raises RequestValueError for a request whose record must be known and is not.
        """
        own, views = service.own_event, [f"{view.name}@{view.spec_hash}" for view in service.views]
        if own is None:
            return self._features.get_views(views, requests, as_of=as_of)
        if own.rule == "excluded":
            left_out = LeftOutRecords(own.topic, records)
            return self._features.get_views(views, requests, as_of=as_of, left_out=left_out)
        return self._included(own, views, requests, _known(own, records), as_of)

    def _included(
        self,
        own: OwnEventRef,
        views: Sequence[str],
        requests: Sequence[Mapping[str, Any]],
        records: Sequence[RecordPlace],
        as_of: datetime | None,
    ) -> FeatureVectors:
        deadline = self._monotonic() + self._bound_s
        while True:
            found = self._features.get_views(views, requests, as_of=as_of)
            behind = {view: _behind(found, view, records) for view in own.views}
            if not any(behind.values()) or self._monotonic() >= deadline:
                break
            self._sleep(_POLL_S)
        for view, rows in behind.items():
            found = found.with_behind(view, rows) if rows else found
        return found


def _known(own: OwnEventRef, records: Sequence[RecordPlace | None]) -> list[RecordPlace]:
    """Return the records. Raises RequestValueError if one is not known."""
    known = [place for place in records if place is not None]
    if len(known) < len(records):
        message = (
            f"the model counts a request's own event in {own.views}, and the request came without its record: produce "
            f"it to {own.topic!r} first (EventProducer.deliver returns its place), and predict with "
            "record=(partition, offset)"
        )
        raise RequestValueError(message)
    return known


def _behind(found: FeatureVectors, view: str, records: Sequence[RecordPlace]) -> list[int]:
    """Return the rows whose record the view has not counted."""
    offsets = next(answer.offsets for answer in found.views if answer.view == view)
    return [row for row, place in enumerate(records) if offsets[row].get(place.source.text, 0) <= place.offset]


class RecordPlaces:
    """Makes the places of records from partitions and offsets. It asks Kafka once for the id of each topic."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._servers = bootstrap_servers
        self._known: dict[str, TopicIncarnation] = {}

    def place(self, topic: str, partition: int, offset: int) -> RecordPlace:
        """Return the place of a record. Raises TopicUnknownError and BusUnavailableError."""
        if topic not in self._known:
            from headrace.bus.kafka_clients import admin  # noqa: PLC0415
            from headrace.bus.topics import incarnations  # noqa: PLC0415

            self._known |= incarnations(admin(self._servers), [topic])
        return RecordPlace(SourcePartition(partition, self._known[topic].topic_id), offset)
