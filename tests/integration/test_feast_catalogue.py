"""A registry of Feast that is kept in step with definitions."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

import pytest

from headrace.app.project.settings import Settings
from headrace.app.project_deployment import feast_folder
from headrace.errors import DefinitionError, SettingsError
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from tests.support.feast_scene import YAML, numbered, ratings, risk, shops, tills

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.features.definitions.view import FeatureView

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's imports and its SQL registry warn


@pytest.fixture(params=["file", "sql"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A repository with a registry; nothing here needs a Redis."""
    path = tmp_path / "registry.db"
    registry = f"sqlite:///{path}" if request.param == "sql" else path
    text = YAML.format(project="p", kind=request.param, registry=registry, redis="127.0.0.1:1", events="events")
    (tmp_path / "feature_store.yaml").write_text(text)
    return tmp_path


def keep(folder: Path, views: Sequence[FeatureView], services: Sequence[FeatureService]) -> list[str]:
    from headrace.feast import Catalogue

    return Catalogue(folder).keep([view.spec for view in views], [service.spec for service in services])


def names(folder: Path) -> dict[str, list[str]]:
    store: Any = opened(folder)
    return {
        "views": sorted(view.name for view in store.list_feature_views()),
        "services": sorted(service.name for service in store.list_feature_services()),
        "sources": sorted(source.name for source in store.list_data_sources()),
    }


def opened(folder: Path) -> Any:
    import feast

    return feast.FeatureStore(repo_path=str(folder))


def test_definitions_are_added_changed_and_removed(folder: Path) -> None:
    assert keep(folder, [shops, tills], [risk]) == ["view shop added", "view till added", "service risk added"]
    assert keep(folder, [shops, tills], [risk]) == []

    longer = dataclasses.replace(shops, windows=["1d", "7d"])
    again = FeatureService("risk", [longer, tills])
    assert keep(folder, [longer, tills], [again]) == ["view shop changed", "service risk changed"]
    view = opened(folder).get_feature_view("shop")
    assert view.batch_source.view == f"shop@{longer.version}"
    assert [field.name for field in view.features][:2] == ["n_1d", "n_7d"]

    assert sorted(keep(folder, [tills], [])) == ["service risk removed", "view shop removed"]
    assert names(folder) == {"views": ["till"], "services": [], "sources": ["headrace.till"]}


def test_on_demand_features_are_a_view_of_their_own(folder: Path) -> None:
    of = {"mean": col("shop__amount_1d") / col("shop__n_1d"), "over": col("bid") > col("mean")}
    bids = FeatureService("bids", [shops], on_demand=of, request={"bid": float})
    assert keep(folder, [shops], [bids]) == ["view shop added", "view bids_on_demand added", "service bids added"]
    assert keep(folder, [shops], [bids]) == []
    assert names(folder)["sources"] == ["headrace.bids_on_demand", "headrace.shop"]

    again = dataclasses.replace(bids, on_demand={**of, "over": col("bid") >= col("mean")})
    assert keep(folder, [shops], [again]) == ["view bids_on_demand changed", "service bids changed"]
    view = opened(folder).get_on_demand_feature_view("bids_on_demand")
    assert '["ge", ["col", "bid"]' in view.feature_transformation.udf_string

    plain = FeatureService("bids", [shops])
    assert keep(folder, [shops], [plain]) == ["service bids changed", "view bids_on_demand removed"]
    assert names(folder) == {"views": ["shop"], "services": ["bids"], "sources": ["headrace.shop"]}
    assert opened(folder).list_on_demand_feature_views() == []


def test_other_objects_in_the_registry_stay(folder: Path) -> None:
    import feast

    shop = feast.Entity(name="shop", join_keys=["shop"], value_type=feast.ValueType.STRING, description="mine")
    view, pushed, _ = ratings(folder)
    store = opened(folder)
    store.apply([shop, pushed, view, feast.FeatureService(name="mine", features=[view])])
    keep(folder, [shops, tills], [risk])
    keep(folder, [], [])
    assert names(folder)["views"] == ["rating"]
    assert names(folder)["services"] == ["mine"]
    assert opened(folder).get_entity("shop").description == "mine"


def test_an_object_of_the_same_name_in_the_registry_is_not_overwritten(folder: Path) -> None:
    import feast

    number = feast.Entity(name="shop", join_keys=["shop"], value_type=feast.ValueType.INT64)
    opened(folder).apply([number])
    with pytest.raises(DefinitionError, match="entity shop: Feast's registry has an entity with join key 'shop'"):
        keep(folder, [shops], [])
    assert keep(folder, [numbered], []) == ["view numbered added"]
    opened(folder).apply([feast.FeatureService(name="risk", features=[opened(folder).get_feature_view("numbered")])])
    with pytest.raises(DefinitionError, match="service risk: Feast's registry has a service of that name"):
        keep(folder, [numbered], [FeatureService("risk", [numbered])])


# -- where it is -------------------------------------------------------------------------------------------------------


def test_a_project_without_a_feature_store_has_no_registry(tmp_path: Path) -> None:
    assert feast_folder(Settings(root=tmp_path)) is None


def test_the_feature_store_is_beside_the_project_or_where_the_setting_says(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "feature_store.yaml").touch()
    assert feast_folder(Settings(root=tmp_path / "own")) == tmp_path / "own"
    assert feast_folder(Settings.model_validate({"root": tmp_path, "feature_store": "own"})) == tmp_path / "own"
    with pytest.raises(SettingsError, match=r"names .*/none, which has no feature_store\.yaml"):
        feast_folder(Settings.model_validate({"root": tmp_path, "feature_store": "none"}))


def test_a_missing_feast_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    import headrace.feast
    from headrace.errors import MissingExtraError

    assert importlib.util.find_spec("feast") is not None
    for name in [
        name for name in sys.modules if name.partition(".")[0] == "feast" or name.startswith("headrace.feast.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "feast", None)
    monkeypatch.delitem(vars(headrace.feast), "HeadraceSource", raising=False)
    with pytest.raises(MissingExtraError, match=r'pip install "headrace\[feast\]"'):
        _ = headrace.feast.HeadraceSource
