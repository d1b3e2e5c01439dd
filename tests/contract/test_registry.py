"""One body on every registry."""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from headrace.errors import RegistryUnavailableError, UnknownVersionError
from headrace.models import artifact, manifest, mlflow_registry
from headrace.models.mlflow_registry import MlflowRegistry
from headrace.models.registry import CHALLENGER_FILE, MemoryRegistry, Registry
from tests.support.model_events import MANIFEST
from tests.support.registry_runs import ESTIMATOR, PASSED, REFUSED, ready_database


@pytest.fixture(params=["memory", pytest.param("mlflow", marks=pytest.mark.integration)])
def registry(request: pytest.FixtureRequest, tmp_path: Path) -> Registry:
    if request.param == "memory":
        return MemoryRegistry(tmp_path / "models")
    return MlflowRegistry(ready_database(tmp_path), (tmp_path / "a folder").as_uri())


def test_a_run_that_passed_is_a_version_whose_files_are_at_its_uris(registry: Registry) -> None:
    kept = registry.record(PASSED)
    assert (kept.version, kept.request_id, kept.manifest_hash) == (1, "delay-1", manifest.hash_of(MANIFEST))
    assert kept.artifact_uri is not None
    artifact.verify(artifact.fetch(kept.artifact_uri), ESTIMATOR.digest)
    assert manifest.decode(artifact.fetch(kept.manifest_uri)) == MANIFEST
    assert registry.version("delay", 1) == registry.find("delay", "delay-1") == kept


def test_a_run_that_did_not_pass_is_kept_without_a_version(registry: Registry) -> None:
    kept = registry.record(REFUSED)
    assert (kept.version, kept.artifact_uri) == (None, None)
    assert registry.find("delay", "delay-2") == kept
    assert registry.record(PASSED).version == 1


def test_recording_a_request_again_changes_nothing(registry: Registry) -> None:
    first = registry.record(PASSED)
    assert registry.record(PASSED) == first
    assert registry.record(replace(PASSED, request_id="delay-3")).version == 2


def test_a_request_that_was_refused_stays_refused(registry: Registry) -> None:
    """Its trainer died, and the run that took it again passed."""
    refused = registry.record(REFUSED)
    passed = replace(REFUSED, gate=PASSED.gate, model=PASSED.model)
    assert registry.record(passed) == refused == registry.find("delay", "delay-2")
    assert json.loads(registry.read(refused.gate_uri)) == {"verdict": "refused"}


def test_the_gated_fit_of_a_version_is_kept_and_its_absence_is_known(registry: Registry) -> None:
    kept = registry.record(PASSED)
    assert registry.gated_fit("delay", 1) == ESTIMATOR.data
    registry.record(replace(PASSED, request_id="delay-3", challenger=None))
    assert registry.gated_fit("delay", 2) is None
    file = Path(unquote(urlsplit(kept.manifest_uri).path)).with_name(CHALLENGER_FILE)
    file.unlink()
    assert registry.gated_fit("delay", 1) is None
    with pytest.raises(UnknownVersionError):
        registry.gated_fit("delay", 9)


def test_models_count_their_own_versions(registry: Registry) -> None:
    registry.record(PASSED)
    assert registry.record(replace(PASSED, name="fraud")).version == 1
    assert registry.find("fraud", "delay-9") is None


def test_the_champion_is_who_was_promoted(registry: Registry) -> None:
    assert registry.champion("delay") is None
    registry.record(PASSED)
    registry.record(replace(PASSED, request_id="delay-3"))
    assert registry.champion("delay") is None
    registry.promote("delay", 2)
    registry.promote("delay", 1)
    assert registry.champion("delay") == 1
    with pytest.raises(UnknownVersionError, match="no version 9 of model 'delay'"):
        registry.promote("delay", 9)
    with pytest.raises(UnknownVersionError, match="headrace models list"):
        registry.version("fraud", 1)


@pytest.mark.integration
def test_mlflow_shows_a_failed_run_with_all_that_explains_it(tmp_path: Path) -> None:
    uri = ready_database(tmp_path)
    kept = MlflowRegistry(uri, (tmp_path / "artifacts").as_uri()).record(REFUSED)
    import mlflow

    run = mlflow.MlflowClient(uri).get_run(kept.run_id)
    assert (run.info.status, run.info.run_name, run.info.end_time) == ("FINISHED", "delay-2", 1_360_000_060_000)
    assert (run.data.params, run.data.metrics) == ({"max_iter": "200"}, {"auc": 0.74})
    assert run.data.tags["code"] == "git:0123abc"
    challenger = artifact.fetch(kept.manifest_uri.replace("manifest.json", "challenger.skops"))
    assert challenger == ESTIMATOR.data


@pytest.mark.integration
def test_a_run_cut_short_is_recorded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MlflowRegistry(ready_database(tmp_path), (tmp_path / "artifacts").as_uri())
    with monkeypatch.context() as cut:
        cut.setattr(registry, "_register", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            registry.record(PASSED)
    assert registry.find("delay", "delay-1") is None
    assert registry.record(PASSED).version == 1


@pytest.mark.integration
def test_a_run_cut_short_after_its_version_keeps_that_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = ready_database(tmp_path)
    registry = MlflowRegistry(uri, (tmp_path / "artifacts").as_uri())
    with monkeypatch.context() as cut:
        cut.setattr(registry, "_completed", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            registry.record(PASSED)
    kept = registry.record(PASSED)
    assert (kept.version, versions(uri)) == (1, {1: "delay-1"})
    assert registry.find("delay", "delay-1") == registry.version("delay", 1) == kept


@pytest.mark.integration
def test_a_registry_whose_making_was_cut_short_is_made_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow renames tables one after the other. A file that it has half made can never be used again."""
    from alembic.ddl.impl import DefaultImpl

    uri, artifacts = f"sqlite:///{tmp_path}/mlflow.db", (tmp_path / "artifacts").as_uri()
    with monkeypatch.context() as cut:
        cut.setattr(DefaultImpl, "drop_table", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            MlflowRegistry(uri, artifacts)
    assert MlflowRegistry(uri, artifacts).record(PASSED).version == 1
    assert [path.name for path in tmp_path.glob("mlflow*")] == ["mlflow.db"]


@pytest.mark.integration
@pytest.mark.long
def test_two_that_make_the_registry_at_once_have_the_same(tmp_path: Path) -> None:
    uri, artifacts = f"sqlite:///{tmp_path}/mlflow.db", (tmp_path / "artifacts").as_uri()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(made_champion, [uri] * 2, [artifacts] * 2)) == [None, None]


def made_champion(uri: str, artifacts: str) -> int | None:
    """Make the registry, and ask it."""
    return MlflowRegistry(uri, artifacts).champion("delay")


@pytest.mark.integration
def test_a_database_that_is_locked_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def locked(*_: object) -> None:
        raise OperationalError("SELECT 1", None, OSError("database is locked"))

    monkeypatch.setattr(mlflow_registry, "make_database", locked)
    with pytest.raises(RegistryUnavailableError, match=r"does not answer: .*database is locked"):
        MlflowRegistry(f"sqlite:///{tmp_path}/mlflow.db", (tmp_path / "artifacts").as_uri())


@pytest.mark.integration
def test_two_trainers_that_record_one_request_at_once_keep_one_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = ready_database(tmp_path)
    first, second = (MlflowRegistry(uri, (tmp_path / "artifacts").as_uri()) for _ in range(2))
    monkeypatch.setattr(second, "_runs", lambda *_: [])  # it sees nothing of the first before it makes its version
    kept = first.record(PASSED)
    assert second.record(PASSED) == kept
    assert versions(uri) == {1: "delay-1"}
    assert first.record(replace(PASSED, request_id="delay-3")).version == 3  # number 2 was given and taken back


def versions(uri: str) -> dict[int, str]:
    """The request of each version that the registry has."""
    import mlflow

    found = mlflow.MlflowClient(uri, uri).search_model_versions("name = 'delay'")
    return {int(each.version): each.tags["headrace.request_id"] for each in found}


@pytest.mark.integration
def test_a_run_is_recorded_with_one_search_before_and_one_after_its_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each search is a request to the registry, while applications wait for the version."""
    registry = MlflowRegistry(ready_database(tmp_path), (tmp_path / "artifacts").as_uri())
    registry.record(PASSED)
    asked: list[str] = []
    for name in ("search_runs", "search_model_versions", "create_registered_model", "get_run"):
        monkeypatch.setattr(registry._client, name, counted(name, getattr(registry._client, name), asked))
    assert registry.record(replace(PASSED, request_id="delay-3")).version == 2
    assert asked == ["search_runs", "search_model_versions"]
    asked.clear()
    assert registry.record(replace(PASSED, request_id="delay-4", model=None)).version is None
    assert asked == ["search_runs"]


def counted(name: str, call: Any, asked: list[str]) -> Any:
    def answer(*given: Any, **named: Any) -> Any:
        asked.append(name)
        return call(*given, **named)

    return answer


@pytest.mark.integration
@pytest.mark.parametrize("first", ["passed", "refused"])
def test_two_trainers_with_two_verdicts_on_one_request_find_one_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    """A version counts, once there is one: its trainer is about to publish it."""
    uri, artifacts = f"sqlite:///{tmp_path}/mlflow.db", (tmp_path / "artifacts").as_uri()
    one, other = MlflowRegistry(uri, artifacts), MlflowRegistry(uri, artifacts)
    monkeypatch.setattr(other, "_runs", lambda *_: [])
    runs = [PASSED, replace(REFUSED, request_id="delay-1")]
    early, late = runs if first == "passed" else reversed(runs)
    one.record(early)
    other.record(late)
    kept = one.find("delay", "delay-1")
    assert kept is not None
    assert (kept.version, kept) == (1, one.version("delay", 1))
    assert one.record(PASSED) == kept == one.record(runs[1])
