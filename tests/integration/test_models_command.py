"""`headrace models` and `headrace data` on real Kafka."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from sklearn.linear_model import LogisticRegression
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.project.project import Project
from headrace.errors import HeadraceError, SettingsError
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.manifest import encode, hash_of
from headrace.models.model_event_log import MemoryAcknowledgements
from headrace.models.model_events import ArtifactRef, ManifestRef
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.control_topics import MODELS
from tests.support.model_events import MANIFEST, published
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.definitions import Model

pytestmark = pytest.mark.integration
run = CliRunner()


@pytest.fixture
def servers(services: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Kafka's address, which the commands find in their environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    monkeypatch.setenv("HEADRACE_ARTIFACT_PLACES", str(tmp_path))
    return str(services.bootstrap_servers)


def test_models_list_and_show_name_versions(servers: str, namespace: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest 1.json"
    path.write_bytes(encode(MANIFEST))
    event = published(
        f"{namespace}-a", 1, expects=None, manifest=ManifestRef(uri=path.as_uri(), hash=hash_of(MANIFEST))
    )
    ensure_topic(servers, MODELS)
    log = KafkaModelEventLog(servers, MODELS)
    log.append(msgspec.structs.replace(event, model=namespace))
    log.close()

    listed = run.invoke(build(), ["models", "list", "--model", namespace, "--json"])
    assert listed.exit_code == 0, listed.output
    assert [(row["version"], row["status"], row["run"]) for row in json.loads(listed.stdout)] == [(1, "live", "run-1")]
    shown = run.invoke(build(), ["models", "show", "1", "--model", namespace, "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert (told["model"], told["version"], told["status"]) == (namespace, 1, "live")
    assert told["cause"]["rule"] == "first"
    assert told["data"]["topics"][0]["offsets"] == {"0": 120, "1": 98}
    assert told["code"] == "git:0123abc"
    assert told["manifest"] == {"uri": path.as_uri(), "hash": hash_of(MANIFEST)}
    plain = run.invoke(build(), ["models", "show", "1", "--model", namespace]).stdout
    assert "20,000 of 20,000 matured labels for the first version" in plain
    assert namespace in run.invoke(build(), ["models", "list"]).stdout

    unknown = run.invoke(build(), ["models", "show", "7", "--model", namespace])
    assert isinstance(unknown.exception, HeadraceError)
    assert "no version 7" in str(unknown.exception)
    assert "published versions: 1" in str(unknown.exception)


def test_a_rollback_takes_the_application_back_and_pins_the_version(
    servers: str, namespace: str, tmp_path: Path
) -> None:
    ensure_topic(servers, MODELS)
    log = KafkaModelEventLog(servers, MODELS)
    stored = artifact.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
    ref = ArtifactRef(
        uri=artifact.store(stored, tmp_path / "model.skops"), digest=stored.digest, content_hash=stored.content_hash
    )
    for version, expects in ((1, None), (2, f"{namespace}-1")):
        event = published(f"{namespace}-{version}", version, expects=expects, artifact=ref)
        log.append(msgspec.structs.replace(event, model=namespace))
    said = MemoryAcknowledgements()
    loading = LoadingPolicy((), ArtifactPlaces([tmp_path]))
    application = ModelSubscriber(namespace, log, said, loading, application="web", clock=lambda: 0)

    def serves() -> tuple[int, bool]:
        current = application.poll_once("1s")
        assert current is not None
        return current.version, application.state.pinned

    def headrace(*words: str) -> Any:
        return run.invoke(build(), ["models", *words, "--model", namespace])

    assert serves() == (2, False)
    done = headrace("rollback", "1", "--reason", "it blocks good customers")
    assert done.exit_code == 0, done.output
    assert f"version 1 of {namespace} is live" in done.stdout
    assert serves() == (1, True)
    assert (said.sent[-1].version, said.sent[-1].ok) == (1, True)
    assert headrace("unpin").exit_code == 0
    assert serves() == (1, False)
    assert "is not pinned" in str(headrace("unpin").exception)
    assert "never published" in str(headrace("rollback", "7", "--reason", "?").exception)
    log.close()


def test_data_is_excluded_listed_and_included_again(servers: str, namespace: str) -> None:
    def headrace(*words: str) -> Any:
        return run.invoke(build(), ["data", *words])

    def listed() -> list[dict[str, Any]]:
        found = headrace("exclusions", "--json")
        assert found.exit_code == 0, found.output
        return [row for row in json.loads(found.stdout) if row["model"] == namespace]

    assert listed() == []
    done = headrace("exclude", "2024-03-01", "2024-03-02T12:00+02:00", "--reason", "broken", "--model", namespace)
    assert done.exit_code == 0, done.output
    (row,) = listed()
    assert row["id"] in done.stdout
    assert (row["from"], row["to"], row["reason"]) == ("2024-03-01T00:00:00Z", "2024-03-02T10:00:00Z", "broken")
    assert "broken" in headrace("exclusions").stdout
    assert "is empty" in str(headrace("exclude", "2024-03-02", "2024-03-01", "--reason", "x").exception)
    assert headrace("include", row["id"], "--reason", "was fine").exit_code == 0
    assert listed() == []
    assert "no exclusion" in str(headrace("include", row["id"], "--reason", "?").exception)


def test_a_version_is_reproduced_or_the_command_says_what_differs(
    servers: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_topic(servers, MODELS)
    log = KafkaModelEventLog(servers, MODELS)
    shop, mine = Shop(tmp_path, log), replace(model, name=namespace)
    finished = shop.runner(mine).run(request(namespace, day(LIVE_FROM)))
    assert finished.version == 1, finished.reason
    log.close()
    monkeypatch.setenv("HEADRACE_EVENT_LOG", str(tmp_path / "log"))

    def headrace(of: Model) -> Any:
        monkeypatch.setattr("headrace.app.project.project.load_project", lambda _: Project(models={namespace: of}))
        return run.invoke(build(), ["reproduce", "1", "--model", namespace, "--json"])

    same = headrace(mine)
    assert same.exit_code == 0, same.output
    assert json.loads(same.stdout) == {
        "model": namespace, "version": 1, "identical": True, "rows": 4_350, "different_rows": 0, "largest": 0.0,
        "differences": [],
    }  # fmt: skip
    other = headrace(replace(mine, train=otherwise))
    assert other.exit_code == 1
    told = json.loads(other.stdout)
    assert (told["identical"], [each["what"] for each in told["differences"]]) == (False, ["code"])


def otherwise(X: Any, y: Any, run: Any) -> LogisticRegression:  # noqa: N803
    """Another fit, for a child process to find."""
    del run
    return LogisticRegression(C=0.01).fit(X, y)


def test_an_empty_data_folder_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = run.invoke(build(), ["models", "list", "--data-dir", str(tmp_path / "none")])
    assert isinstance(asked.exception, SettingsError)
    assert not (tmp_path / "none").exists()
