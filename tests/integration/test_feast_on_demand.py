"""On-demand features of a service in Feast: in its registry, its look-ups and its training sets."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from headrace.errors import DefinitionError
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.streams.worker import publish_definitions
from tests.support.feast_scene import NOW, FeastScene, shops, tills

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = [
    pytest.mark.integration,
    pytest.mark.filterwarnings("ignore"),  # Feast's imports and its SQL registry warn
]
EACH = col("shop__amount_1d") / col("shop__n_1d")
bids = FeatureService(
    "bids", [shops, tills],
    on_demand={
        "each": EACH,
        "above": col("bid") > col("each"),
        "most_or": col("shop__most_1d").fill_null(col("bid")),
        "share": col("till__visits_1d") + col("shop__n_1d"),
        "hour": col("asked").hour(),
    },
    request={"bid": float | None, "asked": datetime},
)  # fmt: skip
fees = FeatureService("fees", [shops], on_demand={"fee": col("bid") * 0.01}, request={"bid": float})
ASKED = datetime(2026, 3, 1, 22, 30, tzinfo=UTC)
ROWS: list[dict[str, Any]] = [
    {"shop": "a", "till": 1, "bid": 3.5, "asked": ASKED},
    {"shop": "b", "till": 1, "bid": 3.5, "asked": ASKED},
    {"shop": "zz", "till": 1, "bid": None, "asked": ASKED},
    {"shop": "old", "till": 1, "bid": 9.0, "asked": ASKED},
]
WANTED: dict[str, list[Any]] = {
    "each": [7.0 / 3, 200.0, None, 5.0],
    "above": [True, False, None, True],
    "most_or": [3.5, 200.0, None, 9.0],
    "share": [5, 1, 0, 2],
    "hour": [22, 22, 22, 22],
}


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> FeastScene:
    scene = FeastScene(services, tmp_path_factory.mktemp("feast"))
    publish_definitions(scene.store, [shops, tills], [bids, fees])
    return scene


@pytest.fixture(scope="module")
def store(scene: FeastScene) -> Iterator[Any]:
    """A store that reads what another one applied."""
    from headrace.feast import objects

    scene.feast().apply([*objects(bids, fees).values()])
    store = scene.feast()
    yield store
    store.teardown()


def columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_feast_look_up_gives_the_on_demand_values_of_the_feature_client(store: Any, scene: FeastScene) -> None:
    service = store.get_feature_service("bids")
    found = store.get_online_features(features=service, entity_rows=ROWS, full_feature_names=True).to_dict()
    assert {name: found[f"bids_on_demand__{name}"] for name in WANTED} == WANTED
    own = scene.client.get("bids", ROWS)
    assert {name: [row[name] for row in own.to_dicts()] for name in WANTED} == WANTED
    assert found["shop__n_1d"] == [3, 1, 0, 1]


def test_on_demand_names_may_be_short(store: Any) -> None:
    service = store.get_feature_service("bids")
    found = store.get_online_features(features=service, entity_rows=ROWS).to_dict()
    assert {name: found[name] for name in WANTED} == WANTED


@pytest.mark.parametrize("full", [False, True])
def test_one_on_demand_feature_alone_needs_its_inputs_and_comes_alone(store: Any, full: bool) -> None:
    rows = [{name: row[name] for name in ("shop", "till", "bid", "asked")} for row in ROWS]
    found = store.get_online_features(["bids_on_demand:each"], rows, full_feature_names=full).to_dict()
    assert found["bids_on_demand__each" if full else "each"] == WANTED["each"]
    assert not [name for name in found if "visits" in name or "above" in name]


def test_an_on_demand_feature_of_request_values_alone_needs_no_entity(store: Any) -> None:
    found = store.get_online_features(["fees_on_demand:fee"], [{"shop": "a", "bid": 50.0}]).to_dict()
    assert found["fee"] == [0.5]


@pytest.mark.parametrize("full", [False, True])
def test_a_training_set_has_the_same_values(store: Any, full: bool) -> None:
    spine = pd.DataFrame({**columns(ROWS), "event_timestamp": [NOW] * len(ROWS)})
    service = store.get_feature_service("bids")
    found = store.get_historical_features(spine, service, full_feature_names=full).to_arrow().to_pydict()
    prefix = "bids_on_demand__" if full else ""
    assert {name: found[prefix + name] for name in WANTED} == WANTED
    assert found["shop__n_1d" if full else "n_1d"] == [3, 1, 0, 1]


@pytest.mark.long
def test_on_demand_view_runs_in_a_process_without_definitions(store: Any, scene: FeastScene) -> None:
    program = f"""
import feast
store = feast.FeatureStore(repo_path={str(scene.folder)!r})
print(store.get_online_features(["fees_on_demand:fee"], [{{"shop": "a", "bid": 50.0}}]).to_dict()["fee"])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.splitlines()[-1] == "[0.5]"


def test_registry_shows_the_expression_of_an_on_demand_feature(store: Any) -> None:
    view = store.get_on_demand_feature_view("bids_on_demand")
    assert [(field.name, str(field.dtype)) for field in view.features] == [
        ("each", "Float64"), ("above", "Bool"), ("most_or", "Float64"), ("share", "Int64"), ("hour", "Int64"),
    ]  # fmt: skip
    assert "def bids_on_demand(inputs):" in view.feature_transformation.udf_string
    assert view.tags["headrace.version"] == bids.version
    assert [projection.name for projection in store.get_feature_service("bids").feature_view_projections] == [
        "shop", "till", "bids_on_demand",
    ]  # fmt: skip


def test_short_names_that_two_views_share_are_refused(scene: FeastScene) -> None:
    from feast.errors import FeatureNameCollisionError

    from headrace.feast import objects

    twins = dataclasses.replace(tills, name="twin", features={"n": Count()})
    service = FeatureService("twins", [shops, twins], on_demand={"gap": col("shop__n_1d") - col("twin__n_1d")})
    publish_definitions(scene.store, [shops, twins], [service])
    store: Any = scene.feast()
    store.apply([*objects(service).values()])
    ask = ["twins_on_demand:gap"]
    spine = pd.DataFrame({**columns(ROWS), "event_timestamp": [NOW] * len(ROWS)})
    with pytest.raises(FeatureNameCollisionError, match="named n_1d found"):
        store.get_online_features(ask, ROWS)
    with pytest.raises(FeatureNameCollisionError, match="named n_1d found"):
        store.get_historical_features(spine, ask)
    found = store.get_historical_features(spine, ask, full_feature_names=True).to_df()
    assert found["twins_on_demand__gap"].tolist() == [1, 1, 0, 0]


def test_a_view_may_not_have_the_name_of_the_on_demand_view() -> None:
    from headrace.feast import objects

    other = FeatureService("other", [dataclasses.replace(shops, name="fees_on_demand")])
    with pytest.raises(DefinitionError, match="view 'fees_on_demand' has the name of the view that Feast's"):
        objects(other.views[0], fees)
