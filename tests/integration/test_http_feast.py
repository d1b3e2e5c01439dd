"""`/get-online-features` beside Feast's own server, over views that hold the same values; and Feast's own client."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.feature_vectors import FEAST_STATUSES
from headrace.serving.features import FeatureClient, Status
from headrace.serving.http import HttpOptions, application
from headrace.serving.http.feast_columns import times_of
from tests.support.http_scene import InThreads, ask, serving
from tests.support.lookups_scene import MINUTE, START, START_US, Worker, sale, tills

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's imports warn


@pytest.fixture(scope="module")
def ours() -> Iterator[str]:
    """Four minutes after the start: a has sold for 1 and 2, b for 5, c for nothing known."""
    store = MemoryOnlineStore()
    worker = Worker(store)
    worker.fold(0, sale("a", 1, 1.0), sale("b", 3, 5.0), sale("c", 3, None))
    worker.fold(1, sale("a", 2, 2.0, till=2))
    client = FeatureClient(store, clock=lambda: START_US + 4 * MINUTE, heartbeat_bound="1000000s")
    with serving(application(InThreads(client), HttpOptions(services=["risk"]))) as url:
        yield url


YAML = """
project: tests
provider: local
registry: {folder}/registry.db
online_store: {online}
entity_key_serialization_version: 3
"""


def repository(folder: Path, online: str) -> Any:
    """Feast's own views of shops and tills."""
    import feast
    import pandas as pd
    from feast.types import Float64, Int64, String

    def view(name: str, keys: dict[str, Any], features: dict[str, Any], rows: pd.DataFrame) -> feast.FeatureView:
        rows.to_parquet(folder / f"{name}.parquet")
        source = feast.FileSource(name=name, path=str(folder / f"{name}.parquet"), timestamp_field="at")
        schema = [feast.Field(name=field, dtype=kind) for field, kind in (keys | features).items()]
        return feast.FeatureView(name=name, source=source, schema=schema, entities=[entities[key] for key in keys])

    folder.mkdir(exist_ok=True)
    (folder / "feature_store.yaml").write_text(YAML.format(folder=folder, online=online))
    kinds = {"shop": feast.ValueType.STRING, "till": feast.ValueType.INT64}
    entities = {name: feast.Entity(name=name, join_keys=[name], value_type=kind) for name, kind in kinds.items()}
    a, b = START + timedelta(minutes=2), START + timedelta(minutes=3)
    by_shop = pd.DataFrame({"shop": ["a", "b"], "at": [a, b], "n_10m": [2, 1], "amount_10m": [3.0, 5.0]})
    by_till = pd.DataFrame(
        {
            "shop": ["a", "a", "b"], "till": [1, 2, 1], "at": [START + timedelta(minutes=1), a, b],
            "n_1h": [1, 1, 1], "last_1h": [1.0, 2.0, 5.0],
        }
    )  # fmt: skip
    shop = view("shop", {"shop": String}, {"n_10m": Int64, "amount_10m": Float64}, by_shop)
    till = view("till", {"shop": String, "till": Int64}, {"n_1h": Int64, "last_1h": Float64}, by_till)
    store = feast.FeatureStore(repo_path=str(folder))
    store.apply([*entities.values(), shop, till, feast.FeatureService(name="risk", features=[shop, till])])
    return store


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    from feast.feature_server import get_app

    folder = tmp_path_factory.mktemp("feast")
    store = repository(folder, f"{{type: sqlite, path: {folder}/online.db}}")
    store.materialize(START - timedelta(days=1), START + timedelta(days=1))
    with serving(get_app(store)) as url:
        yield url


def columns(body: dict[str, Any]) -> dict[str, Any]:
    """The columns of an answer by name; Feast orders the features of a view as it likes."""
    assert sorted(body) == ["metadata", "results"]
    return dict(zip(body["metadata"]["feature_names"], body["results"], strict=True))


ENTITIES = {"till": [1, 1, 2], "shop": ["a", "b", "a"]}


@pytest.mark.parametrize(
    "asked",
    [
        {"feature_service": "risk", "entities": ENTITIES},
        {"feature_service": "risk", "entities": ENTITIES, "full_feature_names": True},
        {"feature_service": "risk", "features": ["shop:n_10m"], "entities": ENTITIES, "more": 1},
        {"features": ["till:last_1h", "shop:n_10m"], "entities": ENTITIES},
        {"features": ["shop:amount_10m"], "entities": {"shop": ["b"], "more": [7]}},
        {
            "features": ["shop@latest:n_10m"],
            "entities": {"shop": ["a"]},
            "include_feature_view_version_metadata": True,
        },
    ],
)
def test_the_answer_is_that_of_feasts_server(ours: str, theirs: str, asked: dict[str, Any]) -> None:
    found, wanted = (ask(f"{url}/get-online-features", asked) for url in (ours, theirs))
    assert (found.status, wanted.status) == (200, 200)
    assert columns(found.json) == columns(wanted.json)
    keys = [name for name in asked["entities"] if name in wanted.json["metadata"]["feature_names"]]
    assert found.json["metadata"]["feature_names"][: len(keys)] == keys
    more = {name: kept for name, kept in wanted.json["metadata"].items() if name != "feature_names"}
    assert {name: kept for name, kept in found.json["metadata"].items() if name != "feature_names"} == more


def test_an_entity_that_is_not_there_is_not_found_as_with_feasts_server(ours: str, theirs: str) -> None:
    asked = {"features": ["shop:amount_10m"], "entities": {"shop": ["zz"]}}
    found, wanted = (columns(ask(f"{url}/get-online-features", asked).json) for url in (ours, theirs))
    for part in ("statuses", "event_timestamps"):
        assert found["amount_10m"][part] == wanted["amount_10m"][part]
    assert found["amount_10m"]["values"] == [0.0]  # what training sets have of such an entity


@pytest.mark.parametrize(
    "asked", [{"feature_service": "no", "entities": ENTITIES}, {"features": ["no:n"], "entities": ENTITIES}]
)
def test_a_request_that_feasts_server_answers_with_404_is_404_here_too(
    ours: str, theirs: str, asked: dict[str, Any]
) -> None:
    assert ask(f"{theirs}/get-online-features", asked).status == 404
    assert ask(f"{ours}/get-online-features", asked).problem == (404, "unknown")


def test_feasts_client_works_with_this_server(ours: str, tmp_path: Path) -> None:
    store = repository(tmp_path / "remote", f"{{type: remote, path: '{ours}'}}")
    rows = [{"shop": "a", "till": 1}, {"shop": "b", "till": 1}]
    found = store.get_online_features(store.get_feature_service("risk"), rows).to_dict()
    assert found == {
        "shop": ["a", "b"], "till": [1, 1], "n_10m": [2, 1], "amount_10m": [3.0, 5.0],
        "n_1h": [1, 1], "last_1h": [1.0, 5.0],
    }  # fmt: skip


def test_every_status_has_a_name_that_is_feasts() -> None:
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    assert FEAST_STATUSES.keys() == {*Status}
    assert {*filter(None, FEAST_STATUSES.values())} <= {*FieldStatus.keys()}


# -- what Feast has no word for ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "problem", "says"),
    [
        ({"features": ["shop:no"], "entities": ENTITIES}, (404, "unknown"), "it has ['n_10m', 'amount_10m']"),
        ({"features": ["till@0:n_1h"], "entities": ENTITIES}, (404, "unknown"), "'till@0'"),
        ({"features": ["no:n"], "entities": ENTITIES}, (404, "unknown"), "no feature view 'no'"),
        ({"features": ["shop"], "entities": ENTITIES}, (422, "invalid"), "view:feature"),
        ({"features": [], "entities": ENTITIES}, (422, "invalid"), "ask for a service or a feature"),
        ({"features": ["till:n_1h", "till:n_1h"], "entities": ENTITIES}, (422, "invalid"), "['till:n_1h'] came"),
        ({"features": ["till:n_1h"], "entities": {"shop": ["a"]}}, (422, "invalid"), "lacks the join keys ['till']"),
        ({"features": ["till:n_1h"], "entities": {"shop": ["a"], "till": []}}, (422, "invalid"), "'till': 0"),
        ({"features": ["shop:n_10m"], "entities": {"shop": [1]}}, (422, "wrong-key"), "wanted str"),
        ({"features": ["shop:n_10m"]}, (422, "invalid"), "entities"),
    ],
)
def test_a_wrong_request_is_a_problem(ours: str, asked: dict[str, Any], problem: tuple[int, str], says: str) -> None:
    answered = ask(f"{ours}/get-online-features", asked)
    assert answered.problem == problem
    assert says in answered.json["detail"]


def test_a_view_may_be_asked_in_a_version_of_its_own(ours: str) -> None:
    asked = {"features": [f"till@{tills.version}:n_1h"], "entities": {"shop": ["a", None], "till": [1, 1]}}
    found = columns(ask(f"{ours}/get-online-features", asked).json)["n_1h"]
    assert (found["values"], found["statuses"]) == ([1, 0], ["PRESENT", "NOT_FOUND"])
    assert found["event_timestamps"][0] == datetime(2020, 1, 1, 0, 1).isoformat() + "Z"  # noqa: DTZ001 - as it is written


def test_no_value_of_an_entity_that_is_there_is_a_null_value(ours: str) -> None:
    asked = {"features": ["till:last_1h"], "entities": {"shop": ["c"], "till": [1]}}
    found = columns(ask(f"{ours}/get-online-features", asked).json)["last_1h"]
    assert (found["values"], found["statuses"]) == ([None], ["NULL_VALUE"])


@pytest.mark.parametrize("time_us", [0, START_US, START_US + 500_000, START_US + 20, START_US + 10_000, -1, -1_500_000])
def test_times_are_written_as_feast_writes_them(time_us: int) -> None:
    from feast.feature_server_utils import _timestamp_to_str
    from google.protobuf.timestamp_pb2 import Timestamp

    stamp = Timestamp()
    stamp.FromMicroseconds(time_us)
    assert msgspec.json.decode(times_of(np.array([time_us]))) == [_timestamp_to_str(stamp)]
