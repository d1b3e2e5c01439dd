"""Feast's SDK over the online plug-in: tiled views from tiles, ordinary ones as Feast's own Redis store has them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import DefinitionError, NewerFormatError, SettingsError
from tests.support.feast_scene import NOW, FeastScene, ago, numbered, ratings, risk, shops, statuses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports and its SQL registry warn
]


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> FeastScene:
    return FeastScene(services, tmp_path_factory.mktemp("feast"))


@pytest.fixture(scope="module")
def store(scene: FeastScene) -> Iterator[Any]:
    """A store with tiled views, ordinary ones, an on-demand one, and a service of the three kinds."""
    import feast
    from feast.types import Int64, String

    from headrace.feast import objects

    view, pushed, rated = ratings(scene.folder)
    made = objects(risk)
    both = feast.FeatureService(name="both", features=[made["view_shop"], view, made["view_till"], rated])
    file = feast.FileSource(name="stock_file", path=str(scene.folder / "stock.parquet"), timestamp_field="at")
    fields = [feast.Field(name="shop", dtype=String), feast.Field(name="pieces", dtype=Int64)]
    stock = feast.FeatureView(name="stock", entities=[made["entity_shop"]], schema=fields, source=file)
    store = scene.feast()
    store.apply([*made.values(), pushed, view, stock, rated, both])
    store.materialize(ago(100), NOW, feature_views=["rating"])
    yield store
    store.teardown()


ROWS = [{"shop": shop, "till": till} for shop, till in (("a", 1), ("zz", 1), ("old", 1), ("b", 1), ("a", 1), ("a", 2))]


def ask(store: Any, features: Any, rows: Any = ROWS, **options: Any) -> Any:
    return store.get_online_features(features=features, entity_rows=rows, **options)


async def ask_async(store: Any, features: Any) -> Any:
    try:
        return await store.get_online_features_async(features=features, entity_rows=ROWS)
    finally:
        await store.close()


# -- values and statuses ----------------------------------------------------------------------------------------------


def test_tiled_views_answer_in_order_with_a_status_and_the_time_of_the_newest_event(store: Any) -> None:
    response = ask(store, store.get_feature_service("risk"))
    found = response.to_dict()
    assert found["shop"] == ["a", "zz", "old", "b", "a", "a"]
    assert statuses(response)["amount_1d"] == [
        "PRESENT",
        "NOT_FOUND",
        "OUTSIDE_MAX_AGE",
        "PRESENT",
        "PRESENT",
        "PRESENT",
    ]
    assert found["amount_1d"] == [7.0, 0.0, 5.0, 200.0, 7.0, 7.0]
    assert found["most_1d"] == [None, None, None, 200.0, None, None]
    assert statuses(response)["most_1d"][0] == "NULL_VALUE"
    assert found["big_1d"] == [True, None, True, None, True, True]
    column = list(response.proto.metadata.feature_names.val).index("amount_1d")
    times = [stamp.ToDatetime(UTC) for stamp in response.proto.results[column].event_timestamps]
    assert times[0] == ago(3)
    assert times[1] == datetime(1970, 1, 1, tzinfo=UTC)
    assert times[2] == ago(40)


def test_feast_store_gives_the_values_of_the_feature_client(store: Any, scene: FeastScene) -> None:
    found = ask(store, store.get_feature_service("risk"), full_feature_names=True).to_dict()
    wanted = scene.client.get("risk", ROWS)
    assert {name: found[name] for name in wanted.columns} == {
        name: list(values) for name, values in zip(wanted.columns, zip(*wanted.to_lists(), strict=True), strict=True)
    }


def test_one_service_mixes_tiled_ordinary_and_on_demand_views(store: Any) -> None:
    response = ask(store, store.get_feature_service("both"), full_feature_names=True)
    found = response.to_dict()
    assert found["shop__amount_1d"] == [7.0, 0.0, 5.0, 200.0, 7.0, 7.0]
    assert found["rating__rating"] == [3.0, None, None, 2.0, 3.0, 3.0]
    assert found["rated__rated"][0] == 21.0
    assert statuses(response)["rating__rating"] == [
        "PRESENT",
        "NOT_FOUND",
        "NOT_FOUND",
        "PRESENT",
        "PRESENT",
        "PRESENT",
    ]


def test_a_feature_alone_comes_alone(store: Any) -> None:
    found = ask(store, ["till:visits_1d", "rating:rating"]).to_dict()
    assert list(found) == ["shop", "till", "visits_1d", "rating"]
    assert found["visits_1d"] == [2, 0, 1, 0, 2, 1]


def test_an_ordinary_value_beyond_its_ttl_is_outside_its_age(store: Any) -> None:
    import pandas as pd

    rows = pd.DataFrame({"shop": ["late", "null"], "event_timestamp": [ago(46), NOW], "rating": [9.0, None]})
    store.push("ratings_push", rows)
    response = ask(store, ["rating:rating"], [{"shop": "late"}, {"shop": "null"}])
    assert response.to_dict()["rating"] == [9.0, None]
    assert statuses(response)["rating"] == ["OUTSIDE_MAX_AGE", "NULL_VALUE"]


def test_a_join_key_without_a_value_finds_nothing(store: Any) -> None:
    response = ask(store, ["shop:n_1d", "rating:rating"], [{"shop": None}, {"shop": "a"}])
    assert response.to_dict()["rating"] == [None, 3.0]
    assert statuses(response)["n_1d"] == statuses(response)["rating"] == ["NOT_FOUND", "PRESENT"]


def test_a_join_key_that_is_not_given_is_named(store: Any) -> None:
    with pytest.raises(KeyError, match=r"'till'.*Missing join key values for keys: \['till'\]"):
        ask(store, ["till:visits_1d"], [{"shop": "a"}])


def test_a_view_may_be_asked_by_several_names(store: Any) -> None:
    import feast

    view = store.get_feature_view("shop").with_name("buyer").with_join_key_map({"shop": "buyer_shop"})
    seller = store.get_feature_view("shop").with_name("seller").with_join_key_map({"shop": "seller_shop"})
    rating = store.get_feature_view("rating").with_name("seller_rating").with_join_key_map({"shop": "seller_shop"})
    store.apply([feast.FeatureService(name="pair", features=[view, seller, rating])])
    rows = [{"buyer_shop": "a", "seller_shop": "b"}, {"buyer_shop": "old", "seller_shop": "a"}]
    found = ask(store, store.get_feature_service("pair"), rows, full_feature_names=True).to_dict()
    assert found["buyer__amount_1d"] == [7.0, 5.0]
    assert found["seller__amount_1d"] == [200.0, 7.0]
    assert found["seller_rating__rating"] == [2.0, 3.0]


def test_the_asynchronous_way_is_the_same_in_every_loop(store: Any) -> None:
    wanted = ask(store, store.get_feature_service("both"))
    for _ in range(2):
        got = asyncio.run(ask_async(store, store.get_feature_service("both")))
        assert (got.to_dict(), statuses(got)) == (wanted.to_dict(), statuses(wanted))


def test_values_are_read_through_the_hook_that_this_release_of_feast_has(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from feast.infra.online_stores.redis import RedisOnlineStore

    from headrace.feast import HeadraceOnlineStore

    hooks: list[str] = []

    def spied(name: str) -> Any:
        own = getattr(HeadraceOnlineStore, name)
        assert own is not getattr(RedisOnlineStore, name)

        def spy(*given: Any) -> Any:
            hooks.append(name)
            return own(*given)

        return spy

    for name in ("_read_features_per_fv", "_read_features_per_fv_async"):
        monkeypatch.setattr(HeadraceOnlineStore, name, spied(name))
    ask(store, ["shop:n_1d"])
    asyncio.run(ask_async(store, ["shop:n_1d"]))
    assert hooks == ["_read_features_per_fv", "_read_features_per_fv_async"]


# -- the store itself -------------------------------------------------------------------------------------------------


def entity_key(**values: Any) -> Any:
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    fields = [Value(**{"string_val" if isinstance(v, str) else "int64_val": v}) for v in values.values()]
    return EntityKey(join_keys=list(values), entity_values=fields)


def test_one_view_is_read_by_entity_key(store: Any) -> None:
    plugin = store._get_provider().online_store
    view = store.get_feature_view("till")
    keys = [entity_key(till=1, shop="a"), entity_key(shop="zz", till=1)]
    for found in (
        plugin.online_read(store.config, view, keys),
        asyncio.run(plugin.online_read_async(store.config, view, keys)),
    ):
        (time, features), missing = found
        assert time == ago(3)
        assert (features["visits_1d"].int64_val, features["big_1d"].bool_val) == (2, True)
        assert missing == (None, None)
    assert list(plugin.online_read(store.config, view, keys, ["big_1d"])[0][1]) == ["big_1d"]


def test_rows_are_not_written_to_a_tiled_view(store: Any) -> None:
    import pandas as pd

    row = {"shop": ["a"], "at": [NOW], "n_1d": [1], "amount_1d": [1.0], "most_1d": [1.0]}
    with pytest.raises(DefinitionError, match="made of events alone: produce them to the topic 'sales'"):
        store.write_to_online_store("shop", pd.DataFrame(row))


def test_ordinary_views_are_byte_for_byte_what_feasts_own_store_writes(store: Any) -> None:
    from feast import RepoConfig
    from feast.infra.online_stores.redis import RedisOnlineStore
    from feast.protos.feast.types.Value_pb2 import Value

    view = store.get_feature_view("rating")
    key, row = entity_key(shop="bytes"), {"rating": Value(double_val=2.5)}
    written: list[Any] = []
    own = store.config.online_store
    for writer, settings in (
        (store._get_provider().online_store, own.model_dump()),
        (RedisOnlineStore(), {"type": "redis", "connection_string": own.connection_string}),
    ):
        config = RepoConfig(
            project=f"p{len(written)}", provider="local", registry="unused.db", online_store=settings,
            entity_key_serialization_version=3,
        )  # fmt: skip
        writer.online_write_batch(config, view, [(key, row, NOW, None)], None)
        found = {
            name[: -len(config.project)]: writer._get_client(config.online_store).hgetall(name)
            for name in writer._get_client(config.online_store).scan_iter(b"*bytes*" + config.project.encode())
        }
        assert len(found) == 1
        written.append(found)
    assert written[0] == written[1]


def test_ordinary_views_of_one_entity_are_one_read_and_go_with_their_rows(
    store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    store.write_to_online_store("stock", pd.DataFrame({"shop": ["a", "c"], "at": [NOW, NOW], "pieces": [3, 4]}))
    plugin = store._get_provider().online_store
    read, reads = plugin._read_hash_fields, list[int]()

    def spy(config: Any, commands: Any) -> Any:
        reads.append(len(commands))
        return read(config, commands)

    monkeypatch.setattr(plugin, "_read_hash_fields", spy)
    asked = ["rating:rating", "stock:pieces"], [{"shop": shop} for shop in ("a", "b", "c", "a")]

    assert ask(store, *asked).to_dict() == {
        "shop": ["a", "b", "c", "a"], "rating": [3.0, 2.0, None, 3.0], "pieces": [3, None, 4, 3],
    }  # fmt: skip
    assert reads == [3]
    plugin.update(store.config, [store.get_feature_view("stock")], [], [], [], partial=False)
    assert ask(store, *asked).to_dict()["pieces"] == [None] * 4
    assert ask(store, *asked).to_dict()["rating"] == [3.0, 2.0, None, 3.0]


def test_tiles_stay_when_views_go(store: Any) -> None:
    plugin = store._get_provider().online_store
    view = store.get_feature_view("shop")
    plugin.update(store.config, [view], [], [], [], partial=False)
    plugin.teardown(store.config, [view], [])
    assert ask(store, ["shop:n_1d", "rating:rating"], [{"shop": "a"}]).to_dict() == {
        "shop": ["a"], "n_1d": [3], "rating": [3.0],
    }  # fmt: skip


# -- definitions ------------------------------------------------------------------------------------------------------


def test_the_registry_carries_the_spec(store: Any) -> None:
    view = store.get_feature_view("shop")
    assert view.batch_source.spec == shops.spec
    assert view.tags["headrace.version"] == shops.version
    assert "n (count), amount (sum), most (last) over 1d of sales" in view.description
    assert {"shop", "till"} <= {entity.name for entity in store.list_entities()}


def test_a_registry_of_a_later_release_is_refused(store: Any) -> None:
    from headrace.feast import HeadraceSource

    proto = store.get_feature_view("shop").batch_source.to_proto()
    proto.custom_options.configuration = b'{"format": 2}'
    with pytest.raises(NewerFormatError, match=r"'headrace.shop' is of format 2; .* upgrade headrace"):
        HeadraceSource.from_proto(proto)


def test_a_join_key_of_two_types_is_refused() -> None:
    from headrace.feast import objects

    with pytest.raises(DefinitionError, match="'shop' is int in view 'numbered' and str in view 'shop'"):
        objects(numbered, risk)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"connection_string": "h:1"}, "redis://h:1/0"),
        ({"connection_string": "h:1,db=3,ssl=true,password=pw"}, "rediss://:pw@h:1/3"),
        ({"connection_string": "h:1,username=u,password=12"}, "redis://u:12@h:1/0"),
        ({"connection_string": "h:1,username=u@x,password=a/b:c#d?e%40"}, "redis://u%40x:a%2Fb%3Ac%23d%3Fe%2540@h:1/0"),
        ({"connection_string": "h:1,password=pw", "redis_type": "redis_cluster"}, "redis+cluster://:pw@h:1"),
        ({"connection_string": "h:1,i:2,ssl=true", "redis_type": "redis_cluster"}, "rediss+cluster://h:1"),
    ],
)
def test_the_tiles_are_in_the_redis_of_the_connection_string(given: dict[str, Any], url: str) -> None:
    from headrace.feast import HeadraceOnlineStoreConfig
    from headrace.feast.online import redis_url

    assert redis_url(HeadraceOnlineStoreConfig(**given)) == url


def test_behind_sentinels_the_redis_of_the_tiles_is_to_be_named() -> None:
    from headrace.feast import HeadraceOnlineStoreConfig
    from headrace.feast.online import redis_url

    with pytest.raises(SettingsError, match="set redis_url"):
        redis_url(HeadraceOnlineStoreConfig(redis_type="redis_sentinel"))


PROBE = """
import sys
import headrace.feast, headrace.serving, headrace.streams.worker
import headrace.app.processes.worker, headrace.app.processes.scorer, headrace.app.project_deployment
print("feast" in sys.modules)
"""


def test_neither_a_worker_nor_an_application_imports_feast() -> None:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
