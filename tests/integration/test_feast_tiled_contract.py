"""What Feast asks of any store, asked of tiled views: forms of requests, projections, errors, logs, monitoring."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from headrace.errors import DefinitionError
from tests.support.feast_scene import NOW, FeastScene, ago, ratings, risk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports and its registry warn
]
SPINE = pd.DataFrame({"shop": ["a", "b"], "event_timestamp": [NOW, NOW]})


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> FeastScene:
    return FeastScene(services, tmp_path_factory.mktemp("feast"), kind="file")


@pytest.fixture(scope="module")
def store(scene: FeastScene) -> Iterator[Any]:
    """Tiled views; an ordinary one; an on-demand one; services: some columns, computed ahead, logged."""
    import feast
    from feast.feature_logging import LoggingConfig
    from feast.infra.offline_stores.file_source import FileLoggingDestination

    from headrace.feast import objects

    view, pushed, rated = ratings(scene.folder)
    made = objects(risk)
    shop = made["view_shop"]
    logs = LoggingConfig(destination=FileLoggingDestination(path=str(scene.folder / "logs")))
    services = [
        feast.FeatureService(name="some", features=[view, shop[["most_1d", "n_1d"]]]),
        feast.FeatureService(name="ahead", features=[view, shop], precompute_online=True),
        feast.FeatureService(name="logged", features=[shop[["n_1d"]]], logging_config=logs),
    ]
    store = scene.feast()
    store.apply([*made.values(), pushed, view, rated, *services])
    store.materialize(ago(100), NOW, feature_views=["rating"])
    yield store
    store.teardown()


def ask(store: Any, features: Any, rows: Any, **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = store.get_online_features(features=features, entity_rows=rows, **options).to_dict()
    return found


def test_entities_are_given_as_columns_of_values_of_either_kind(store: Any) -> None:
    from feast.protos.feast.types.Value_pb2 import RepeatedValue, Value

    values = [Value(string_val=shop) for shop in ("a", "b")]
    wanted = {"shop": ["a", "b"], "n_1d": [3, 1]}
    for given in (["a", "b"], values, RepeatedValue(val=values)):
        assert ask(store, ["shop:n_1d"], {"shop": given}) == wanted
    numbers: list[Any] = [[1, 1], ["1", "1"]]
    for given in numbers:
        assert ask(store, ["till:visits_1d"], {"till": given, "shop": ["a", "b"]})["visits_1d"] == [2, 0]


def test_no_entity_gives_empty_columns(store: Any) -> None:
    assert ask(store, ["shop:n_1d", "rating:rating"], {"shop": []}) == {"shop": [], "n_1d": [], "rating": []}
    plugin = store._get_provider().online_store
    assert plugin.online_read(store.config, store.get_feature_view("shop"), []) == []


def test_rows_of_an_ordinary_view_are_pushed_from_any_loop(store: Any) -> None:
    for rating in (4.0, 5.0):
        row = pd.DataFrame({"shop": ["pushed"], "event_timestamp": [ago(10 - rating)], "rating": [rating]})
        asyncio.run(pushed(store, row))
        assert ask(store, ["rating:rating"], [{"shop": "pushed"}])["rating"] == [rating]


async def pushed(store: Any, rows: pd.DataFrame) -> None:
    await store.initialize()
    try:
        await store.push_async("ratings_push", rows)
    finally:
        await store.close()


def test_a_service_may_have_some_of_the_columns(store: Any) -> None:
    service = store.get_feature_service("some")
    found = ask(store, service, [{"shop": "b"}], full_feature_names=True)
    assert found == {"shop": ["b"], "rating__rating": [2.0], "shop__most_1d": [200.0], "shop__n_1d": [1]}
    past = store.get_historical_features(entity_df=SPINE, features=service, full_feature_names=True).to_df()
    assert past["shop__n_1d"].tolist() == [3, 1]
    assert set(past) == {*SPINE, *found}


def test_event_timestamps_and_versions_of_views_come_along(store: Any) -> None:
    response = store.get_online_features(
        features=["shop:n_1d"], entity_rows=[{"shop": "a"}], include_feature_view_version_metadata=True
    )
    assert response.to_df(include_event_timestamps=True)["n_1d__ts"].tolist() == [int(ago(3).timestamp())]
    assert [one.name for one in response.proto.metadata.feature_view_metadata] == ["shop"]


@pytest.mark.parametrize(
    ("features", "error"),
    [
        (["shop:nothing"], "KeyError"),
        (["nothing:n_1d"], "FeatureViewNotFoundException"),
        (["shop:n_1d", "shop:n_1d"], "FeatureNameCollisionError"),
    ],
)
def test_features_that_are_not_there_are_errors(store: Any, features: list[str], error: str) -> None:
    for attempt in (
        lambda: ask(store, features, [{"shop": "a"}]),
        lambda: store.get_historical_features(entity_df=SPINE, features=features).to_df(),
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011 - the kind is looked at
            attempt()
        assert error in [kind.__name__ for kind in type(raised.value).__mro__]


def test_a_spine_with_a_column_of_a_features_name_is_refused(store: Any) -> None:
    with pytest.raises(DefinitionError, match=r"entity_df has columns of the names of features: \['n_1d'\]"):
        store.get_historical_features(entity_df=SPINE.assign(n_1d=1), features=["shop:n_1d"]).to_df()
    found = store.get_historical_features(SPINE.assign(n_1d=1), ["shop:n_1d"], full_feature_names=True).to_df()
    assert (found["n_1d"].tolist(), found["shop__n_1d"].tolist()) == ([1, 1], [3, 1])


def test_a_spine_without_a_join_key_of_an_ordinary_view_says_so(store: Any) -> None:
    spine = SPINE.drop(columns="shop")
    with pytest.raises(DefinitionError, match="entity_df has no column 'shop'; it has"):
        store.get_historical_features(entity_df=spine, features=["rating:rating"]).to_df()


def test_tiled_values_are_not_computed_ahead(store: Any) -> None:
    store.precompute_feature_service("ahead")
    with pytest.raises(DefinitionError, match="precompute_online=True and the tiled view 'shop'"):
        ask(store, store.get_feature_service("ahead"), [{"shop": "a"}])


def test_served_features_may_be_logged_and_read_again(store: Any) -> None:
    from feast.feature_logging import FeatureServiceLoggingSource

    service = store.get_feature_service("logged")
    schema = FeatureServiceLoggingSource(service, store.project).get_schema(store.registry)
    rows = {
        "shop": ["a"], "shop__n_1d": [3], "shop__n_1d__timestamp": [ago(3)], "shop__n_1d__status": [2],
        "__log_timestamp": [ago(1)], "__request_id": ["r"], "__log_date": [ago(1).date()],
    }  # fmt: skip
    store.write_logged_features(source=service, logs=pa.Table.from_pydict(rows, schema=schema))
    job = store._get_provider().retrieve_feature_service_logs(
        feature_service=service, start_date=ago(2), end_date=NOW, config=store.config, registry=store.registry
    )
    assert job.to_df()["shop__n_1d"].tolist() == [3]


def test_feast_monitors_ordinary_views_and_passes_tiled_ones_by(store: Any, caplog: pytest.LogCaptureFixture) -> None:
    from feast.monitoring.monitoring_service import MonitoringService

    MonitoringService(store).auto_compute()
    assert {record.levelname for record in caplog.records if record.name.startswith("feast")} <= {"WARNING", "INFO"}
    assert any("'shop', skipping" in record.getMessage() for record in caplog.records)
    assert not any("'rating', skipping" in record.getMessage() for record in caplog.records)
