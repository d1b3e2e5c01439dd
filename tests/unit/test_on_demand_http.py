"""On-demand features over HTTP: both endpoints, and what a request that lacks a value is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.base.times import utc_datetime
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.serving.http import HttpOptions, application
from headrace.streams.worker import publish_definitions
from tests.support.basket_service import AT_US, NOWHERE, REQUESTS, WANTED, basket
from tests.support.http_scene import InThreads, ask, serving
from tests.support.lookups_scene import A1, B1, filled

if TYPE_CHECKING:
    from collections.abc import Iterator

ENTITIES = [A1, B1, NOWHERE]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    store = MemoryOnlineStore()
    filled(store)
    publish_definitions(store, [], [basket])
    client = FeatureClient(store, clock=lambda: AT_US, heartbeat_bound="1000000000000s")
    with serving(application(InThreads(client), HttpOptions(services=["basket"]))) as found:
        yield found


def asked(entities: list[Any], **more: Any) -> dict[str, Any]:
    return {"service": "basket", "entities": entities, "as_of": utc_datetime(AT_US).isoformat(), **more}


@pytest.mark.parametrize(
    "body",
    [
        asked(ENTITIES, request=REQUESTS),
        asked([entity | own for entity, own in zip(ENTITIES, REQUESTS, strict=True)]),
        asked([entity | {"vip": own["vip"]} for entity, own in zip(ENTITIES, REQUESTS, strict=True)], request=REQUESTS),
    ],
)
def test_the_values_of_a_request_stand_beside_the_entities_or_in_them(url: str, body: Any) -> None:
    found = ask(f"{url}/features", body).json
    assert found["columns"] == basket.columns()
    assert [row[4:] for row in found["rows"]] == WANTED
    assert [view["view"] for view in found["views"]] == ["shop", "till"]


def test_one_request_may_serve_all_entities(url: str) -> None:
    each = ask(f"{url}/features", asked([A1, B1], request=[REQUESTS[0]] * 2)).json
    assert ask(f"{url}/features", asked([A1, B1], request=REQUESTS[0])).json == each


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (None, "missing required field `price` - at `$[0]`"),
        ({"price": True, "vip": None}, "Expected `float`, got `bool` - at `$[0].price`"),
        ([REQUESTS[0], {"price": 1}], "missing required field `vip` - at `$[1]`"),
        ([REQUESTS[0]], "2 entities came with 1 requests"),
    ],
)
def test_a_request_that_lacks_a_value_is_refused_by_name(url: str, request_: Any, says: str) -> None:
    answered = ask(f"{url}/features", asked([A1, B1], request=request_))
    assert answered.problem == (422, "wrong-value")
    assert says in answered.json["detail"]


def test_the_server_is_ready_without_any_request(url: str) -> None:
    assert ask(f"{url}/readyz").status == 200


def test_feasts_clients_get_on_demand_features_after_the_features_of_the_views(url: str) -> None:
    columns = {name: [entity[name] for entity in ENTITIES] for name in ("shop", "till")}
    columns |= {name: [own[name] for own in REQUESTS] for name in ("price", "vip")}
    body = {"feature_service": "basket", "entities": columns, "full_feature_names": True}
    found = ask(f"{url}/get-online-features", body).json
    assert found["metadata"]["feature_names"] == ["shop", "till", *basket.columns()]
    made = [vector["values"] for vector in found["results"][-3:]]
    assert [list(row) for row in zip(*made, strict=True)] == WANTED
    assert found["results"][-2]["statuses"] == ["PRESENT", "NULL_VALUE", "NULL_VALUE"]
    assert found["results"][-2]["event_timestamps"] == ["1970-01-01T00:00:00Z"] * 3
    lacking = ask(f"{url}/get-online-features", {**body, "entities": {"shop": ["a"], "till": [1]}})
    assert lacking.problem == (422, "wrong-value")
