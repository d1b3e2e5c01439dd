"""On-demand features in look-ups: both clients, on every store; what is wrong with a request is said by name."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headrace.base.times import utc_datetime
from headrace.errors import RequestValueError
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.worker import publish_definitions
from tests.support.basket_service import AT_US, NOWHERE, REQUESTS, WANTED, basket
from tests.support.lookups_scene import A1, B1, START_US, Awaited, Waiting, filled, risk, shops, tills
from tests.support.online_stores import KINDS, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from headrace.features.online.store import OnlineStore

    Make = Callable[..., Waiting | Awaited]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    for store in opened(request):
        filled(store)
        publish_definitions(store, [], [basket])
        yield store


@pytest.fixture(params=[Waiting, Awaited])
def client(request: pytest.FixtureRequest, store: OnlineStore, namespace: str) -> Make:
    """Makes a client of the store, with options."""
    return partial(request.param, store, namespace)


@pytest.mark.parametrize("options", [{}, {"service_cache": "60s"}, {"cache": "60s"}], ids=str)
def test_on_demand_features_come_after_the_columns_of_the_views(client: Make, options: dict[str, Any]) -> None:
    reader = client(**options)
    views = reader.get("risk", [A1, B1, NOWHERE], as_of=utc_datetime(AT_US)).to_lists()
    for _ in range(2):  # the service is known the second time
        found = reader.get("basket", [A1, B1, NOWHERE], as_of=utc_datetime(AT_US), request=REQUESTS)
        assert found.columns == [*risk.columns(), "gap", "is_dear", "is_known"] == basket.columns()
        assert found.to_lists() == [[*own, *made] for own, made in zip(views, WANTED, strict=True)]
        matrix = found.to_numpy()[:, 4:]
        assert np.array_equal(matrix, np.array([[2, 1, 1], [np.nan] * 2 + [1], [np.nan] * 2 + [0]]), equal_nan=True)
        assert found.to_dicts()[0]["gap"] == 2.0
        assert list(found.to_pandas().columns) == basket.columns()


def memory(**options: Any) -> FeatureClient:
    store = MemoryOnlineStore()
    filled(store)
    publish_definitions(store, [], [basket])
    return FeatureClient(store, **options)


def test_a_request_may_be_one_for_all_or_stand_in_the_entities() -> None:
    get = partial(memory().get, "basket", as_of=utc_datetime(AT_US))
    each = get([A1, B1], request=[REQUESTS[0], REQUESTS[0]]).to_lists()
    assert get([A1, B1], request=REQUESTS[0]).to_lists() == each
    assert get([A1 | REQUESTS[0], B1 | REQUESTS[0]]).to_lists() == each
    assert get([A1 | REQUESTS[1], B1 | {"vip": None}], request={"price": 3, "vip": None}).to_lists() == each
    assert get(A1, request=REQUESTS[0]).to_lists() == each[:1]
    assert get([]).columns == basket.columns()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (None, r"required field `price` - at `\$\[0\]`"),
        ({"price": "3", "vip": None}, r"Expected `float`, got `str` - at `\$\[0\].price`"),
        ([REQUESTS[0], {"price": 3}], r"required field `vip` - at `\$\[1\]`"),
        ([REQUESTS[0]], r"2 entities came with 1 requests"),
    ],
)
def test_a_wrong_request_is_refused_by_name(request_: Any, said: str) -> None:
    with pytest.raises(RequestValueError, match=said):
        memory().get("basket", [A1, B1], as_of=utc_datetime(AT_US), request=request_)


def test_on_demand_features_of_a_view_out_of_range_are_missing() -> None:
    found = memory().get("basket", A1, as_of=utc_datetime(START_US - 3_600_000_000), request=REQUESTS[0])
    assert found.to_lists()[0][4:] == [None, None, False]


def test_a_client_notices_changed_on_demand_features() -> None:
    store = MemoryOnlineStore()
    filled(store)
    client = FeatureClient(store)
    for on_demand, wanted in (({"x": col("shop__n_10m") + 1}, 3), ({"x": col("shop__n_10m") + 2}, 4)):
        publish_definitions(store, [], [FeatureService("basket", [shops, tills], on_demand)])
        assert client.get("basket", A1, as_of=utc_datetime(AT_US)).to_dicts()[0]["x"] == wanted
