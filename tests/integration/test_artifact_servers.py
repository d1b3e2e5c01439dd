"""Artifacts on an S3 server, and an MLflow server with which nothing is shared on disk: from publication to a swap."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.base.times import wall_clock
from headrace.errors import RegistryUnavailableError, SettingsError, TransientError, UnavailableError
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces, places_with
from headrace.models.artifact_urls import check_place
from headrace.models.intervention import intervene
from headrace.models.mlflow_registry import MlflowRegistry
from headrace.models.model_event_log import MemoryAcknowledgements
from headrace.models.model_events import RolledBack
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.artifact_servers import MlflowServer, s3_server
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request
from tests.support.registry_runs import PASSED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.models.registry import Registry

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with s3_server(monkeypatch) as place:
        yield place


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    server = MlflowServer(tmp_path_factory.mktemp("mlflow") / "server")
    server.start()
    try:
        yield server
    finally:
        server.kill()


def application(shop: Shop, places: ArtifactPlaces) -> ModelSubscriber:
    """An application that follows the model, with the places of its deployment."""
    acks, policy = MemoryAcknowledgements(), LoadingPolicy(trusted=[], places=places)
    return ModelSubscriber(model.name, shop.model_events, acks, policy, application="web", clock=wall_clock)


def published_loaded_and_rolled_back(folder: Path, registry: Registry, places: ArtifactPlaces, scheme: str) -> None:
    """Two versions are published and loaded, and the application goes back to the first."""
    shop = Shop(folder)
    shop.registry = registry  # type: ignore[assignment]
    assert shop.runner().run(request("first", day(LIVE_FROM))).version == 1
    app = application(shop, places)
    loaded = app.poll_once()
    assert loaded is not None
    assert loaded.published.artifact.uri.startswith(scheme)
    assert loaded.published.manifest.uri.startswith(scheme)
    shop.serve(1)
    second = shop.runner().run(request("second", day(50)))
    assert (second.outcome, second.version) == ("published", 2)
    assert (now := app.poll_once()) is not None
    assert now.version == 2
    data = RolledBack(version=1, reason="worse")
    shop.model_events.append(intervene(shop.state, data, id_=uuid.uuid4().hex, model=model.name, at_us=day(51)))
    assert (back := app.poll_once()) is not None
    assert back.version == 1
    assert places.read(back.published.manifest.uri)


def test_artifacts_on_s3_are_published_loaded_and_rolled_back(tmp_path: Path, s3: str) -> None:
    registry = MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", f"{s3}/headrace")
    published_loaded_and_rolled_back(tmp_path / "shop", registry, ArtifactPlaces([f"{s3}/headrace"]), "s3://")


def test_an_mlflow_server_keeps_all_and_nothing_is_shared_on_disk(tmp_path: Path, mlflow: MlflowServer) -> None:
    registry = MlflowRegistry(mlflow.uri, "mlflow-artifacts:/headrace")
    places = places_with(["mlflow-artifacts:/headrace"], mlflow.uri)
    published_loaded_and_rolled_back(tmp_path / "shop", registry, places, "mlflow-artifacts:")


def test_a_file_that_is_missing_or_too_large_on_s3_is_said(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    places = ArtifactPlaces([s3])
    with pytest.raises(TransientError, match=r"the artifact 's3://models/no\.skops' cannot be read"):
        places.read(f"{s3}/no.skops")
    from headrace.models import artifact_urls

    artifact_urls.write(s3, {"large.bin": b"x" * 2_000}, within_s=20)
    assert places.read(f"{s3}/large.bin") == b"x" * 2_000
    with pytest.raises(Exception, match="has more than 1,000 bytes"):
        artifact_urls.read(f"{s3}/large.bin", largest=1_000, within_s=20)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(TransientError):
        artifact.fetch(f"{s3}/large.bin")


def test_a_server_that_is_killed_is_waited_for_and_its_run_is_recorded_once(
    tmp_path: Path, mlflow: MlflowServer
) -> None:
    registry = MlflowRegistry(mlflow.uri, "mlflow-artifacts:/killed")
    run = replace(PASSED, name=f"killed-{uuid.uuid4().hex[:6]}")
    first = registry.record(run)
    mlflow.kill()
    try:
        other = replace(run, request_id="other")
        for ask in (
            lambda: registry.record(other),
            lambda: registry.find(run.name, run.request_id),
            lambda: registry.champion(run.name),
        ):
            with pytest.raises(RegistryUnavailableError) as raised:
                ask()
            assert isinstance(raised.value, UnavailableError), "the loop of runs waits for these"
    finally:
        mlflow.start()
    assert registry.record(run) == first
    assert registry.record(other).version == 2
    registry.promote(run.name, 2)
    assert registry.champion(run.name) == 2


def test_a_registry_whose_database_is_locked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlflow.db"
    registry = MlflowRegistry(f"sqlite:///{path}", (tmp_path / "artifacts").as_uri())
    registry.record(PASSED)
    lock = sqlite3.connect(path)
    lock.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(RegistryUnavailableError, match="locked"):
            registry.record(replace(PASSED, request_id="other"))
    finally:
        lock.rollback()
        lock.close()
    assert registry.record(replace(PASSED, request_id="other")).version == 2


@pytest.mark.parametrize(
    ("place", "registry", "says"),
    [
        ("ftp://x/y", "sqlite:///x.db", "artifacts cannot be kept at ftp: URLs; choose a folder"),
        ("mlflow-artifacts:/x", "sqlite:///x.db", "registry_uri names none"),
    ],
)
def test_a_place_at_which_nothing_can_be_kept_is_refused_at_start(place: str, registry: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        check_place(place, "artifacts", registry)


def test_every_place_that_can_keep_artifacts_passes() -> None:
    places: list[Any] = ["/srv/models", "file:///srv/models", "s3://b/x", "gs://b/x", "abfs://b/x"]
    for place in places:
        check_place(place, "artifacts", "sqlite:///x.db")
    check_place("mlflow-artifacts:/x", "artifacts", "http://mlflow:5000")
