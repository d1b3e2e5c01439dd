"""What Feast's own offline store does for ordinary views, the plug-in does too: each test runs on both."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from tests.support.feast_contract import NOW, PROFILES, STORES, TRIPS, WEATHER, Repository, ago

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports and its registry warn
]
SPINE = pd.DataFrame(
    {
        "user": [1, 1, 2, 3, 9],
        "city": ["x", "y", "x", "x", "x"],
        "event_timestamp": [ago(0), ago(1.2), ago(0.5), ago(0.1), ago(2)],
        "extra": [1, 2, 3, 4, 5],
    }
)
NOTHING = float("nan")


@pytest.fixture(scope="module", params=STORES)
def repository(services: LocalServices, tmp_path_factory: pytest.TempPathFactory, request: Any) -> Repository:
    return Repository(services, tmp_path_factory.mktemp("feast"), request.param)


@pytest.fixture
def store(repository: Repository) -> Any:
    return repository.store


def history(store: Any, features: Any, spine: Any = SPINE, **options: Any) -> pd.DataFrame:
    """By the number of the row in ``extra``: Feast's own store keeps no order, and not all rows."""
    found: pd.DataFrame = store.get_historical_features(entity_df=spine, features=features, **options).to_df()
    if store.config.offline_store.type != "file":
        assert found["extra"].tolist() == spine["extra"].tolist()
    return found.set_index("extra", drop=False).reindex(spine["extra"])


def newest(rows: pd.DataFrame, at: Any, column: str, ttl_days: float = 10) -> Any:
    """By hand: of the rows up to a time and no older than the ttl the last by time, then by when it was known."""
    seen = rows[(rows["at"] <= at) & (rows["at"] >= at - timedelta(days=ttl_days))]
    order = [name for name in ("at", "known") if name in rows]
    return seen.sort_values(order)[column].iloc[-1] if len(seen) else NOTHING


def wanted() -> pd.DataFrame:
    found = [
        {
            "age": newest(PROFILES[PROFILES["user"] == row.user], row.event_timestamp, "age"),
            "length": newest(
                TRIPS[(TRIPS["person"] == row.user) & (TRIPS["city"] == row.city)], row.event_timestamp, "km"
            ),
            "degrees": newest(WEATHER, row.event_timestamp, "degrees"),
        }
        for row in SPINE.itertuples()
    ]
    return pd.DataFrame(found)


def agree(found: pd.DataFrame, *names: str) -> None:
    """With what is worked out by hand, on the rows that came back."""
    there = found["user"].notna().to_numpy()
    for name in names:
        np.testing.assert_array_equal(found[name][there].astype(float), wanted()[name][there].astype(float))


def test_rows_of_the_past_are_joined_as_of_their_time(store: Any) -> None:
    found = history(store, ["profile:age", "trip:length", "weather:degrees"])
    agree(found, "age", "length", "degrees")
    assert wanted()["age"].tolist()[:3] == [32, 30, 40]
    assert set(found) == {*SPINE, "age", "length", "degrees"}


def test_feature_names_may_be_full(store: Any) -> None:
    found = history(store, store.get_feature_service("some"), full_feature_names=True)
    assert set(found) == {*SPINE, "profile__age", "profile__vip", "weather__degrees"}
    assert found["profile__age"].tolist()[:3] == [32, 30, 40]


def test_types_of_features_are_kept(store: Any) -> None:
    names = ["age", "balance", "vip", "seen", "marks"]
    job = store.get_historical_features(
        entity_df=SPINE[SPINE["user"].isin([1, 2])], features=[f"profile:{name}" for name in names]
    )
    frame, schema = job.to_df(), job.to_arrow().schema
    assert frame["age"].dtype == np.int64
    assert [str(schema.field(name).type).partition("[")[0].partition("<")[0] for name in names] == [
        "int64", "float", "bool", "timestamp", "list",
    ]  # fmt: skip
    assert sorted(map(list, frame["marks"])) == [[], [1], [2, 3]]


@pytest.mark.parametrize("zone", [None, "Asia/Tokyo"])
def test_times_of_any_zone_mean_the_same(store: Any, zone: str | None) -> None:
    times = SPINE["event_timestamp"].dt.tz_convert(zone) if zone else SPINE["event_timestamp"].dt.tz_localize(None)
    found = history(store, ["profile:age"], SPINE.assign(event_timestamp=times))
    agree(found, "age")


def test_the_time_column_may_have_another_name(store: Any) -> None:
    spine = SPINE.rename(columns={"event_timestamp": "asked_at"})
    found = history(store, ["profile:age", "weather:degrees"], spine)
    agree(found, "age")
    assert set(found) == {*spine, "age", "degrees"}


def test_the_time_column_may_be_named_like_that_of_a_source(store: Any) -> None:
    found = history(store, ["profile:age", "weather:degrees"], SPINE.rename(columns={"event_timestamp": "at"}))
    agree(found, "age", "degrees")


def test_without_a_ttl_a_row_is_never_too_old(store: Any, repository: Repository) -> None:
    for_ever = repository.view("for_ever", [repository.user], repository.views[0].batch_source)
    from feast import Field
    from feast.types import Int64

    for_ever.features = [Field(name="age", dtype=Int64)]
    for_ever.ttl = timedelta(0)
    store.apply([for_ever])
    assert history(store, ["for_ever:age"])["age"].tolist()[3] == 50


def test_rows_created_after_the_spines_time_may_be_left_out(store: Any) -> None:
    spine = SPINE.assign(event_timestamp=[ago(0.7), ago(1.2), ago(1.5), ago(0.1), ago(2)])
    assert history(store, ["profile:age"], spine)["age"].tolist()[:3] == [32, 30, 40]
    found = history(store, ["profile:age"], spine, filter_by_created_timestamp=True)["age"]
    np.testing.assert_array_equal(found[:3], [31, 30, NOTHING])


def test_on_demand_views_give_the_requested_features_alone(store: Any) -> None:
    found = history(store, ["later:older"])
    assert "richer" not in found
    np.testing.assert_array_equal(found["older"], wanted()["age"] + SPINE["extra"])
    assert {"later__older", "later__richer"} <= set(
        history(store, ["later:older", "later:richer"], full_feature_names=True)
    )


@pytest.mark.parametrize(
    ("features", "spine", "error"),
    [
        (["profile:nothing"], SPINE, "KeyError"),
        (["nothing:age"], SPINE, "FeatureViewNotFoundException"),
        (["later:older"], SPINE.drop(columns="extra"), "RequestDataNotFoundInEntityDfException"),
        (["profile:age"], SPINE.drop(columns="user"), "KeyError DefinitionError"),
        (["profile:age"], SPINE.drop(columns="event_timestamp"), "ValueError EntityTimestampInferenceException"),
        (["profile:age"], "no table", "ValueError DefinitionError"),
    ],
)
def test_a_spine_that_cannot_be_answered_is_an_error(store: Any, features: list[str], spine: Any, error: str) -> None:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - the kind is looked at, and stores differ
        store.get_historical_features(entity_df=spine, features=features).to_df()
    assert {kind.__name__ for kind in type(raised.value).__mro__} & set(error.split())


def test_without_a_spine_all_rows_of_a_time_come(store: Any) -> None:
    job = store.get_historical_features(features=["profile:age"], start_date=ago(5), end_date=NOW)
    found = job.to_df()
    assert {1, 2} <= set(found["user"])
    assert 32 in set(found["age"])


def test_a_set_is_saved_and_saved_over(store: Any, tmp_path: Path) -> None:
    from feast.errors import SavedDatasetLocationAlreadyExists
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    storage = SavedDatasetFileStorage(path=str(tmp_path / "kept.parquet"))
    job = store.get_historical_features(entity_df=SPINE, features=["profile:age", "later:older"])
    store.create_saved_dataset(from_=job, name="kept", storage=storage, allow_overwrite=True)
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)
    store.create_saved_dataset(from_=job, name="kept", storage=storage, allow_overwrite=True)
    assert sorted(store.get_saved_dataset("kept").to_df()["age"].dropna()) == [30, 32, 40]
    assert job.metadata.features[:2] == ["profile:age", "later:older"]
    assert set(job.metadata.keys) == {"user", "city", "extra"}


def test_offline_rows_are_written_and_pushed(store: Any) -> None:
    from feast.data_source import PushMode

    def row(user: int) -> pd.DataFrame:
        return pd.DataFrame(
            {"user": [user], "at": [ago(1)], "known": [ago(1)], "age": [user], "balance": np.array([0.5], np.float32),
             "vip": [True], "seen": [ago(1)], "marks": [[4]]}
        )  # fmt: skip

    store.write_to_offline_store("profile", row(51), reorder_columns=True)
    store.push("profiles_push", row(52), to=PushMode.OFFLINE)
    spine = pd.DataFrame({"user": [51, 52], "event_timestamp": [NOW, NOW], "extra": [1, 2]})
    assert history(store, ["profile:age"], spine)["age"].tolist() == [51, 52]


def test_served_features_may_be_logged_and_read_again(store: Any, repository: Repository) -> None:
    import feast
    import pyarrow as pa
    from feast.feature_logging import FeatureServiceLoggingSource, LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination

    destination = FileLoggingDestination(path=str(repository.folder / "logs"))
    service = feast.FeatureService(
        name="logged", features=[repository.views[0][["age"]]], logging_config=LoggingConfig(destination=destination)
    )
    store.apply([service])
    schema = FeatureServiceLoggingSource(service, store.project).get_schema(store.registry)
    rows = {
        "user": [1, 2], "profile__age": [32, 40], "profile__age__timestamp": [ago(1)] * 2,
        "profile__age__status": [1, 1], "__log_timestamp": [ago(0.2), ago(0.1)], "__request_id": ["a", "b"],
        "__log_date": [ago(0.2).date(), ago(0.1).date()],
    }  # fmt: skip
    store.write_logged_features(source=service, logs=pa.Table.from_pydict(rows, schema=schema))
    job = store._get_provider().retrieve_feature_service_logs(
        feature_service=service, start_date=ago(1), end_date=NOW, config=store.config, registry=store.registry
    )
    assert sorted(job.to_df()["profile__age"]) == [32, 40]
