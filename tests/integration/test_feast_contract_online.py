"""What Feast's own online store does for ordinary views, the plug-in does too: each test runs on both."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from tests.support.feast_contract import NOW, STORES, Repository, ago

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports and its registry warn
]
USERS = [{"user": user} for user in (2, 1, 9, 1)]


@pytest.fixture(scope="module", params=STORES)
def kind(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def repository(services: LocalServices, tmp_path_factory: pytest.TempPathFactory, kind: str) -> Repository:
    """Everything is materialized, in two steps."""
    made = Repository(services, tmp_path_factory.mktemp("feast"), kind)
    names = [view.name for view in made.views]
    made.store.materialize(ago(60), ago(1.5), feature_views=names)
    made.store.materialize_incremental(NOW, feature_views=names)
    return made


@pytest.fixture
def store(repository: Repository) -> Any:
    return repository.store


def ask(store: Any, features: Any, rows: Any = USERS, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = store.get_online_features(features=features, entity_rows=rows, **options).to_dict()
    return found


def test_the_newest_row_holds_and_equal_times_are_decided_by_the_created_time(store: Any) -> None:
    found = ask(store, [f"profile:{name}" for name in ("age", "balance", "vip", "seen", "marks")])
    assert found["user"] == [2, 1, 9, 1]
    assert found["age"] == [40, 32, None, 32]
    assert found["balance"] == [4.5, 2.5, None, 2.5]
    assert found["vip"] == [True, False, None, False]
    assert found["marks"] == [[], [2, 3], None, [2, 3]]
    assert [None if at is None else at.astimezone(UTC) for at in found["seen"][:3]] == [ago(2.5), ago(1.5), None]


def test_views_of_two_keys_and_of_none(store: Any) -> None:
    rows = [{"user": 1, "city": "y"}, {"city": "x", "user": 2}, {"user": 2, "city": "y"}]
    found = ask(store, ["trip:length", "weather:degrees", "profile:age"], rows)
    assert found["length"] == [4.0, 5.0, None]
    assert found["degrees"] == [20.0] * 3
    assert found["age"] == [32, 40, 40]


def test_a_service_has_its_columns_by_either_name(store: Any) -> None:
    service = store.get_feature_service("some")
    assert set(ask(store, service)) == {"user", "age", "vip", "degrees"}
    found = ask(store, service, full_feature_names=True)
    assert set(found) == {"user", "profile__age", "profile__vip", "weather__degrees"}
    assert found["profile__age"] == [40, 32, None, 32]


def test_event_timestamps_come_along(store: Any) -> None:
    response = store.get_online_features(
        features=["profile:age", "trip:length"], entity_rows=[{"user": 1, "city": "x"}]
    )
    frame = response.to_df(include_event_timestamps=True)
    assert frame["age__ts"].tolist() == [int(ago(1).timestamp())]
    assert frame["length__ts"].tolist() == [int(ago(2).timestamp())]


def test_an_answer_may_say_versions_of_views(store: Any) -> None:
    response = store.get_online_features(
        features=["profile:age", "weather:degrees"], entity_rows=USERS, include_feature_view_version_metadata=True
    )
    noted = response.proto.metadata.feature_view_metadata
    assert {one.name: one.version for one in noted} == {"profile": 0, "weather": 0}


def test_entities_are_given_as_columns_of_values_of_either_kind(store: Any) -> None:
    from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

    values = [Value(int64_val=user) for user in (1, 2)]
    wanted = {"user": [1, 2], "age": [32, 40]}
    assert ask(store, ["profile:age"], {"user": [1, 2]}) == wanted
    assert ask(store, ["profile:age"], {"user": RepeatedValue(val=values)}) == wanted
    assert ask(store, ["profile:age"], {"user": values}) == wanted
    assert ask(store, ["profile:age"], {"user": ["1", "2"]}) == wanted


def test_on_demand_views_take_what_was_read_and_what_is_asked(store: Any) -> None:
    rows = [{"user": 1, "extra": 5}, {"user": 2, "extra": 6}]
    found = ask(store, ["later:older", "profile:vip"], rows)
    assert found == {"user": [1, 2], "older": [37.0, 46.0], "vip": [False, True]}
    assert ask(store, ["later:richer"], rows, full_feature_names=True)["later__richer"] == [7.5, 10.5]


def test_an_on_demand_view_that_is_written_is_read_as_it_was_written(store: Any) -> None:
    rows = pd.DataFrame({"user": [71], "age": [9], "at": [NOW], "event_timestamp": [NOW], "known": [NOW]})
    store.write_to_online_store("half", rows)
    assert ask(store, ["half:halved"], [{"user": 71}, {"user": 72}])["halved"] == [4.5, None]


def test_asynchronous_reads_give_the_same_values(store: Any) -> None:
    async def both() -> Any:
        await store.initialize()
        try:
            return await store.get_online_features_async(features=store.get_feature_service("some"), entity_rows=USERS)
        finally:
            await store.close()
            left_open = store._get_provider().online_store._client_async
            if left_open is not None:  # by Feast's own store
                await left_open.aclose()

    assert asyncio.run(both()).to_dict() == ask(store, store.get_feature_service("some"))


@pytest.mark.parametrize(
    ("features", "rows", "error"),
    [
        (["profile:nothing"], USERS, "KeyError"),
        (["nothing:age"], USERS, "FeatureViewNotFoundException"),
        (["profile:age"], [{"city": "x"}], "KeyError"),
        (["later:older"], USERS, "RequestDataNotFoundInEntityRowsException"),
        (["profile:age"], [{"user": 1}, {"city": "x"}], "ValueError"),
    ],
)
def test_a_request_that_cannot_be_answered_is_an_error(store: Any, features: list[str], rows: Any, error: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the kind is looked at, and stores differ
        ask(store, features, rows)
    assert error in [kind.__name__ for kind in type(raised.value).__mro__]


# -- writes -----------------------------------------------------------------------------------------------------------


def profile(user: int, age: int, at: Any) -> pd.DataFrame:
    row = {"user": user, "age": age, "balance": 1.0, "vip": True, "seen": at, "marks": [4], "at": at, "known": at}
    return pd.DataFrame([row])


def test_a_row_that_is_older_than_what_is_there_changes_nothing(store: Any) -> None:
    for age, at in ((1, ago(1)), (2, ago(2)), (3, ago(0.5)), (4, ago(0.5))):
        store.write_to_online_store("profile", profile(81, age, at))
    assert ask(store, ["profile:age"], [{"user": 81}])["age"] == [3]


def test_pushed_rows_are_read_online(store: Any) -> None:
    store.push("profiles_push", profile(82, 7, ago(0.1)))
    assert ask(store, ["profile:age"], [{"user": 82}])["age"] == [7]


def test_nothing_to_write_is_no_error(store: Any) -> None:
    plugin = store._get_provider().online_store
    seen: list[int] = []
    plugin.online_write_batch(store.config, store.get_feature_view("profile"), [], seen.append)
    assert sum(seen) == 0


def test_one_view_is_read_with_all_its_features_or_some(store: Any) -> None:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    plugin, view = store._get_provider().online_store, store.get_feature_view("profile")
    key = EntityKey(join_keys=["user"], entity_values=[Value(int64_val=1)])
    ((at, found),) = plugin.online_read(store.config, view, [key])
    assert at == ago(1)
    assert set(found) == {"age", "balance", "vip", "seen", "marks"}
    ((at, found),) = plugin.online_read(store.config, view, [key], ["age"])
    assert {name: value.int64_val for name, value in found.items()} == {"age": 32}
    assert plugin.online_read(store.config, view, []) == []


def test_online_keys_may_expire(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store.config.online_store, "key_ttl_seconds", 1)
    store.write_to_online_store("profile", profile(84, 1, NOW))
    assert ask(store, ["profile:age"], [{"user": 84}])["age"] == [1]
    time.sleep(1.1)
    assert ask(store, ["profile:age"], [{"user": 84}])["age"] == [None]


def test_a_service_may_be_computed_ahead(store: Any, repository: Repository) -> None:
    import feast

    ahead = feast.FeatureService(name="ahead", features=[repository.views[0][["age"]]], precompute_online=True)
    store.apply([ahead])
    assert store.precompute_feature_service("ahead") > 0
    found = ask(
        store, store.get_feature_service("ahead"), [{"user": 2}, {"user": 1}, {"user": 2}], full_feature_names=True
    )
    assert found["profile__age"] == [40, 32, 40]


def test_views_and_repositories_go_with_their_rows_alone(services: LocalServices, tmp_path: Path, kind: str) -> None:
    from feast.types import Int64

    made = Repository(services, tmp_path, kind)
    (tmp_path / "other").mkdir()
    other = Repository(services, tmp_path / "other", kind)
    twin = made.view("twin", [made.user], made.views[0].batch_source, user=Int64, age=Int64)
    made.store.apply([twin])
    made.store.materialize(ago(60), NOW, feature_views=["twin"])
    for one in (made, other):
        one.store.materialize(ago(60), NOW, feature_views=["profile"])
    made.store.apply([], objects_to_delete=[twin], partial=False)
    assert ask(made.store, ["profile:age"])["age"] == [40, 32, None, 32]
    made.store.apply([twin])
    assert ask(made.store, ["twin:age"])["age"] == [None] * 4
    made.store.teardown()
    assert ask(other.store, ["profile:age"])["age"] == [40, 32, None, 32]
    other.store.teardown()
