"""Membership on demand: is the device of a request one of the card's last ones? In look-ups, HTTP and folds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headrace import Entity, Event, FeatureService, FeatureView, LastN, Stream, UniqueList, col
from headrace.bus.event import encode
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import RequestValueError
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.serving.http import HttpOptions, application
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions
from headrace.testing import fold
from tests.support.http_scene import InThreads, ask, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

START = datetime(2026, 1, 1, tzinfo=UTC)
AT = START + timedelta(hours=1)
SOURCE = SourcePartition(0, b"t" * 16)


class Paid(Event):
    """A card pays with a device; the device may be unknown."""

    card: str
    device: str | None
    at: datetime


paid = Stream("paid", Paid, event_time="at")
devices = FeatureView(
    "devices", Entity("card"), paid, ["7d"],
    {"last": LastN("device", 2, as_list=True), "all": UniqueList("device", most=5)},
)  # fmt: skip
service = FeatureService(
    "risk", [devices], request={"device": str | None},
    on_demand={
        "is_known": col("device").is_in(col("devices__last_7d")),
        "was_known": col("device").is_in(col("devices__all_7d")),
        "is_new": ~col("is_known"),
    },
)  # fmt: skip
PAYMENTS = [("a", "phone"), ("a", "laptop"), ("a", None), ("a", "tablet"), ("b", None)]
ROWS = [Paid(card=card, device=device, at=START + timedelta(minutes=n)) for n, (card, device) in enumerate(PAYMENTS)]
ASKED = [("a", "tablet"), ("a", "laptop"), ("a", "phone"), ("a", None), ("b", "phone"), ("nobody", "phone")]
WANTED = [
    [True, True, False], [True, True, False], [False, True, True], [None, None, None], [False, False, True],
    [False, False, True],
]  # fmt: skip
ENTITIES = [{"card": card} for card, _ in ASKED]
REQUESTS = [{"device": device} for _, device in ASKED]


def client() -> FeatureClient:
    """A client of a store that a worker has filled."""
    stamps = np.array([int(row.at.timestamp() * 1e6) for row in ROWS])
    records = PartitionRecords(np.arange(len(ROWS)), stamps, [None] * len(ROWS), [encode(row) for row in ROWS])
    rows = RecordJudge(paid).rows(SOURCE.topic_id, 0, records, NO_CLOCK)
    store = MemoryOnlineStore(lambda: 0)
    publish_definitions(store, [devices], [service])
    owned = ViewPartition(devices.spec, SOURCE, store)
    owned.acquire(bytes(16), 1)
    assert all(store.write(owned.fold(LoggedRows.from_rows(rows, "at"), rows.height)))
    return FeatureClient(store, clock=lambda: int(AT.timestamp() * 1e6), heartbeat_bound="1000000000000s")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving(application(InThreads(client()), HttpOptions(services=["risk"]))) as found:
        yield found


def test_a_look_up_says_whether_a_device_is_known() -> None:
    found = client().get("risk", ENTITIES, request=REQUESTS)
    assert [row[-3:] for row in found.to_lists()] == WANTED
    assert found.to_lists()[0][:2] == [["tablet", "laptop"], ["tablet", "laptop", "phone"]]


def test_an_answer_over_http_says_whether_a_device_is_known(url: str) -> None:
    body: dict[str, Any] = {"service": "risk", "entities": ENTITIES, "request": REQUESTS}
    found = ask(f"{url}/features", body).json
    assert found["columns"] == service.columns()
    assert [row[-3:] for row in found["rows"]] == WANTED
    assert found["rows"][0][:2] == [["tablet", "laptop"], ["tablet", "laptop", "phone"]]


def test_feasts_endpoint_says_whether_a_device_is_known(url: str) -> None:
    columns = {"card": [card for card, _ in ASKED], "device": [device for _, device in ASKED]}
    body = {"feature_service": "risk", "entities": columns, "full_feature_names": True}
    found = ask(f"{url}/get-online-features", body).json
    made = [each["values"] for each in found["results"][-3:]]
    assert [list(row) for row in zip(*made, strict=True)] == WANTED


def test_a_request_without_the_device_is_refused_by_name(url: str) -> None:
    with pytest.raises(RequestValueError, match="device"):
        client().get("risk", {"card": "a"}, request={})
    answered = ask(f"{url}/features", {"service": "risk", "entities": [{"card": "a"}], "request": [{}]})
    assert answered.problem == (422, "wrong-value")
    assert "`device`" in answered.json["detail"]
    answered = ask(f"{url}/features", {"service": "risk", "entities": [{"card": "a"}], "request": [{"device": 3}]})
    assert "Expected `str | null`, got `int` - at `$[0].device`" in answered.json["detail"]


def test_a_fold_says_whether_a_device_is_known() -> None:
    found = [
        fold(service, ROWS, at=AT, entity=entity, request=request)
        for entity, request in zip(ENTITIES, REQUESTS, strict=True)
    ]
    assert [[each[name] for name in service.on_demand] for each in found] == WANTED
