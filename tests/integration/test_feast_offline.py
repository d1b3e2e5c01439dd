"""Feast's SDK over the offline plug-in: training sets of tiled views from the log, of ordinary ones as Feast's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from headrace.errors import DefinitionError
from tests.support.feast_scene import NOW, RATINGS, SALES, FeastScene, ago, ratings, risk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports and its SQL registry warn
]
SPINE = pd.DataFrame(
    {
        "label": range(9),
        "shop": ["a", "old", "zz", "a", "a", "b", "b", "a", None],
        "till": [1, 1, 1, 2, 1, 2, 2, 1, 1],
        "event_timestamp": [ago(m) for m in (0, 0, 0, 3.99, 4.5, 30, 1, 0, 0)],
    }
)
NOTHING = float("nan")


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> FeastScene:
    return FeastScene(services, tmp_path_factory.mktemp("feast"), kind="file")


@pytest.fixture(scope="module")
def store(scene: FeastScene) -> Iterator[Any]:
    import feast

    from headrace.feast import objects

    view, pushed, rated = ratings(scene.folder)
    made = objects(risk)
    both = feast.FeatureService(name="both", features=[made["view_shop"], view, made["view_till"], rated])
    store = scene.feast()
    store.apply([*made.values(), pushed, view, rated, both])
    yield store
    store.teardown()


def total(shop: str | None, at: datetime) -> float:
    """By hand: what is available a second after it happened, and asked a millisecond later at least."""
    return sum(s.amount for s in SALES if s.shop == shop and s.at + timedelta(seconds=1, milliseconds=1) <= at)


def rating(shop: str | None, at: datetime) -> float:
    known = RATINGS[(RATINGS["shop"] == shop) & (RATINGS["event_timestamp"] <= at)]
    known = known[known["event_timestamp"] >= at - timedelta(minutes=45)]
    return float(known.sort_values("event_timestamp")["rating"].iloc[-1]) if len(known) else NOTHING


def history(store: Any, spine: Any = SPINE, features: Any = None, **options: Any) -> pd.DataFrame:
    service = store.get_feature_service("both") if features is None else features
    found: pd.DataFrame = store.get_historical_features(entity_df=spine, features=service, **options).to_df()
    return found


def test_every_row_of_the_spine_comes_back_in_order_with_the_values_of_its_time(store: Any) -> None:
    found = history(store, full_feature_names=True)
    assert found["label"].tolist() == SPINE["label"].tolist()
    assert found["shop"].tolist() == SPINE["shop"].tolist()
    rows = list(zip(SPINE["shop"], SPINE["event_timestamp"], strict=True))
    assert found["shop__amount_1d"].tolist() == [total(*row) for row in rows]
    np.testing.assert_array_equal(found["rating__rating"], [rating(*row) for row in rows])
    np.testing.assert_array_equal(found["rated__rated"], [rating(*row) * total(*row) for row in rows])
    assert found["till__visits_1d"].tolist() == [2, 1, 0, 0, 1, 0, 1, 2, 0]
    assert found["till__big_1d"].tolist() == [True, True, None, None, False, None, True, True, None]
    assert found.columns.to_list() == [
        *SPINE.columns, "shop__n_1d", "shop__amount_1d", "shop__most_1d", "rating__rating", "till__visits_1d",
        "till__big_1d", "rated__rated",
    ]  # fmt: skip


def test_a_training_set_at_now_is_what_a_look_up_says_now(store: Any) -> None:
    rows = [{"shop": shop, "till": till} for shop in ("a", "b", "old", "zz") for till in (1, 2)]
    online = store.get_online_features(features=store.get_feature_service("risk"), entity_rows=rows).to_dict()
    found = history(store, pd.DataFrame(rows).assign(event_timestamp=NOW), store.get_feature_service("risk"))
    for name in ("n_1d", "amount_1d", "most_1d", "visits_1d", "big_1d"):
        assert [None if pd.isna(value) else value for value in found[name]] == online[name]


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo", "object"])
def test_times_of_any_zone_mean_the_same(store: Any, zone: str | None) -> None:
    times = pd.to_datetime(SPINE["event_timestamp"], utc=True)
    given: Any = {
        None: times.dt.tz_localize(None), "object": times.astype(object), "UTC": times,
    }.get(zone, times if zone in {None, "object"} else times.dt.tz_convert(zone or "UTC"))  # fmt: skip
    wanted = history(store, features=["shop:amount_1d", "rating:rating"])
    found = history(store, SPINE.assign(event_timestamp=given), ["shop:amount_1d", "rating:rating"])
    pd.testing.assert_frame_equal(found[["amount_1d", "rating"]], wanted[["amount_1d", "rating"]])


def test_arrow_keeps_integers_with_gaps(store: Any) -> None:
    table = store.get_historical_features(entity_df=SPINE, features=["shop:n_1d", "till:big_1d"]).to_arrow()
    assert [str(table.schema.field(name).type) for name in ("n_1d", "big_1d")] == ["int64", "bool"]


def test_a_view_may_be_asked_by_several_names(store: Any) -> None:
    import feast

    buyer = store.get_feature_view("shop").with_name("buyer").with_join_key_map({"shop": "buyer_shop"})
    seller = store.get_feature_view("shop").with_name("seller").with_join_key_map({"shop": "seller_shop"})
    rated = store.get_feature_view("rating").with_name("seller_rating").with_join_key_map({"shop": "seller_shop"})
    store.apply([feast.FeatureService(name="pair", features=[buyer, seller, rated])])
    spine = pd.DataFrame({"buyer_shop": ["a", "old"], "seller_shop": ["b", "a"], "event_timestamp": [NOW, NOW]})
    found = history(store, spine, store.get_feature_service("pair"), full_feature_names=True)
    assert found["buyer__amount_1d"].tolist() == [7.0, 5.0]
    assert found["seller__amount_1d"].tolist() == [200.0, 7.0]
    assert found["seller_rating__rating"].tolist() == [2.0, 3.0]


def test_an_empty_spine_gives_no_row(store: Any) -> None:
    found = history(store, SPINE.iloc[:0], ["shop:amount_1d"])
    assert (len(found), found.columns.to_list()) == (0, [*SPINE.columns, "amount_1d"])


# -- SQL --------------------------------------------------------------------------------------------------------------


def test_a_spine_by_sql_over_the_event_log_does_not_see_its_own_records(store: Any) -> None:
    sql = 'SELECT shop, till, "at" AS event_timestamp, amount AS label FROM "sales" WHERE shop <> \'b\' ORDER BY "at"'
    found = history(store, sql)
    wanted = [sale for sale in sorted(SALES, key=lambda sale: sale.at) if sale.shop != "b"]
    assert found["label"].tolist() == [sale.amount for sale in wanted]
    assert found["amount_1d"].tolist() == [total(sale.shop, sale.at) for sale in wanted] == [0.0, 0.0, 1.0, 3.0]


def test_a_spine_by_sql_joins_files(store: Any, scene: FeastScene) -> None:
    file = scene.folder / "ratings.parquet"
    sql = (
        f"SELECT r.shop, r.event_timestamp, COUNT(*) AS sales FROM read_parquet('{file}') r JOIN sales s "
        "ON r.shop = s.shop GROUP BY r.shop, r.event_timestamp ORDER BY r.event_timestamp"
    )
    found = history(store, sql, ["shop:n_1d"])
    assert found["sales"].tolist() == [3, 1, 3]
    assert found["n_1d"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("spine", "why"),
    [
        ('SELECT * FROM "sails"', r"'sails' was not found.*in double quotes \(found of this query: none\)"),
        ("SELECT nothing FROM sales", r"nothing.*found of this query: \['sales'\]"),
        ("SELECT * FROM read_parquet('nowhere.parquet')", "does not run as SQL"),
        (7, "entity_df is a int: wanted a pandas or Dask DataFrame, or SQL"),
        (None, "there is no look-up without an entity_df"),
        (
            SPINE.assign(event_timestamp=SPINE["event_timestamp"].where(SPINE.index != 1)),
            "no 'event_timestamp' in row 1",
        ),
        (SPINE.drop(columns="shop"), "entity_df has no column 'shop'; it has .*'till'"),
        (SPINE.assign(till="one"), "join key 'till' is String; the views have it as int: cast it"),
        (SPINE.assign(till=1.5), "column 'till' holds 1.5, which is not a whole number"),
        (SPINE.assign(till=float("inf")), "column 'till' holds inf, which is not a whole number"),
        (SPINE.assign(till=2.0**53 + 2), "column 'till' holds 9007199254740994.0, which is not a whole number up to"),
        (SPINE.assign(till=True), "join key 'till' is Boolean; the views have it as int: cast it"),
    ],
)
def test_a_wrong_spine_is_refused(store: Any, spine: Any, why: str) -> None:
    with pytest.raises(DefinitionError, match=f"(?s){why}"):
        history(store, spine, ["till:visits_1d"])


def test_whole_numbers_that_pandas_made_floats_are_keys(store: Any) -> None:
    spine = SPINE.assign(till=[*map(float, SPINE["till"][:-1]), NOTHING])
    wanted = history(store, SPINE, ["till:visits_1d"])["visits_1d"].tolist()
    assert max(wanted) > 0
    assert history(store, spine, ["till:visits_1d"])["visits_1d"].tolist() == [*wanted[:-1], 0]


# -- the rest of Feast's way ------------------------------------------------------------------------------------------


def test_a_saved_dataset_keeps_the_rows(store: Any, tmp_path: Path) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    job = store.get_historical_features(entity_df=SPINE, features=store.get_feature_service("both"))
    storage = SavedDatasetFileStorage(path=str(tmp_path / "kept.parquet"))
    store.create_saved_dataset(from_=job, name="kept", storage=storage)
    wanted = history(store)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "kept.parquet"), wanted)
    kept = store.get_saved_dataset("kept").to_df()
    assert len(kept) == len(SPINE)
    assert sorted(kept["amount_1d"]) == sorted(wanted["amount_1d"])


def test_ordinary_views_alone_are_read_by_a_range_of_time(store: Any) -> None:
    job = store.get_historical_features(features=["rating:rating"], start_date=ago(60), end_date=NOW)
    assert job.to_df()["rating"].tolist()


def test_materializing_everything_writes_ordinary_views_and_leaves_tiled_ones(store: Any) -> None:
    store.materialize(ago(100), NOW)
    store.materialize_incremental(NOW)
    response = store.get_online_features(features=["rating:rating", "shop:n_1d"], entity_rows=[{"shop": "a"}])
    assert response.to_dict() == {"shop": ["a"], "rating": [3.0], "n_1d": [3]}


def test_pushed_rows_go_into_both_stores_of_an_ordinary_view(store: Any) -> None:
    from feast.data_source import PushMode

    row = pd.DataFrame({"shop": ["new"], "event_timestamp": [ago(1)], "rating": [5.0]})
    store.push("ratings_push", row, to=PushMode.ONLINE_AND_OFFLINE)
    spine = pd.DataFrame({"shop": ["new"], "event_timestamp": [NOW]})
    assert history(store, spine, ["rating:rating"])["rating"].tolist() == [5.0]
    online = store.get_online_features(features=["rating:rating"], entity_rows=[{"shop": "new"}])
    assert online.to_dict()["rating"] == [5.0]


def test_rows_are_not_written_to_a_tiled_view(store: Any) -> None:
    from headrace.feast import HeadraceOfflineStore

    view = store.get_feature_view("shop")
    row = {"shop": ["a"], "n_1d": [1], "amount_1d": [1.0], "most_1d": [1.0], "at": [NOW]}
    with pytest.raises(DefinitionError, match="made of events alone: produce them to the topic 'sales'"):
        store.write_to_offline_store("shop", pd.DataFrame(row))
    assert HeadraceOfflineStore.pull_all_from_table_or_query(store.config, view.batch_source).to_df().empty
