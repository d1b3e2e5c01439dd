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
from headrace.bus.control_topics import ControlTopics
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.errors import HeadraceError, SettingsError
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.kafka_model_event_log import KafkaAcknowledgements, KafkaModelEventLog, ensure_topic
from headrace.models.manifest import encode, hash_of
from headrace.models.model_event_log import MemoryAcknowledgements
from headrace.models.model_events import Acknowledgement, ArtifactRef, ManifestRef
from headrace.models.publication_signing import PublicationSigning
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.control_topics import MODELS
from tests.support.model_events import MANIFEST, published
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.definitions import Model

pytestmark = pytest.mark.integration
run = CliRunner()
KEY = "a key of this deployment, made at random"


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
    assert [(row["version"], row["status"], row["registry_run"]) for row in json.loads(listed.stdout)] == [
        (1, "live", "run-1")
    ]
    shown = run.invoke(build(), ["models", "show", namespace, "1", "--json"])
    assert shown.exit_code == 0, shown.output
    told = json.loads(shown.stdout)
    assert (told["model"], told["version"], told["status"]) == (namespace, 1, "live")
    assert told["cause"]["rule"] == "first"
    assert told["data"]["topics"][0]["offsets"] == {"0": 120, "1": 98}
    assert told["code"] == "git:0123abc"
    assert told["manifest"] == {"uri": path.as_uri(), "hash": hash_of(MANIFEST)}
    plain = run.invoke(build(), ["models", "show", namespace, "1"]).stdout
    assert "20,000 of 20,000 matured labels for the first version" in plain
    assert namespace in run.invoke(build(), ["models", "list"]).stdout

    made = run.invoke(build(), ["lineage", f"{namespace}@1", "--json"])
    assert made.exit_code == 0, made.output
    lineage = json.loads(made.stdout)
    assert {"source": "service:delay", "target": lineage["of"], "role": ""} in lineage["edges"]
    assert lineage["version"] == told

    unknown = run.invoke(build(), ["models", "show", namespace, "7"])
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

    def headrace(word: str, *more: str) -> Any:
        return run.invoke(build(), ["models", word, namespace, *more])

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


@pytest.mark.long
def test_a_person_promotes_pins_retires_and_asks_what_was_live(
    servers: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = ControlTopics(namespace)
    monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
    monkeypatch.setenv("HEADRACE_PUBLICATION_KEYS", json.dumps([KEY]))
    ensure_topic(servers, topics.models)
    log = KafkaModelEventLog(servers, topics.models, signing=PublicationSigning([KEY]))
    waits: dict[str, Any] = {"approval": "wanted", "format": 4}
    for version, expects, more in ((1, None, {}), (2, "e1", {}), (3, "e2", waits)):
        made = msgspec.structs.replace(MANIFEST, rows=10_000 * version)
        path = tmp_path / f"manifest-{version}.json"
        path.write_bytes(encode(made))
        ref = ManifestRef(uri=path.as_uri(), hash=hash_of(made))
        log.append(published(f"e{version}", version, expects=expects, manifest=ref, **more))

    def headrace(word: str, *more: str) -> Any:
        of = [] if word == "list" else ["delay"]
        done = run.invoke(build(), ["models", word, *of, *more, "--json"])
        assert done.exit_code == 0, (word, more, done.output, done.exception)
        return json.loads(done.stdout)

    def statuses() -> dict[int, str]:
        return {row["version"]: row["status"] for row in headrace("list")}

    assert statuses() == {1: "published", 2: "live", 3: "waiting"}
    assert [each["what"] for each in headrace("diff", "1", "2")["differences"]] == ["status", "data.rows"]
    pinned = headrace("pin", "--reason", "freeze", "--by", "ann@desk")
    assert (pinned["live"], pinned["pinned"], pinned["by"], pinned["reason"]) == (2, True, "ann@desk", "freeze")
    assert headrace("promote", "3", "--reason", "looked at")["live"] == 3
    assert "@" in headrace("rollback", "2", "--reason", "worse")["by"]
    assert headrace("unpin")["pinned"] is False
    assert headrace("retire", "1", "--reason", "old")["live"] == 2
    assert statuses() == {1: "retired", 2: "live", 3: "published"}

    monkeypatch.delenv("HEADRACE_PUBLICATION_KEYS")
    refused = run.invoke(build(), ["models", "pin", "delay", "--reason", "no key here"])
    assert isinstance(refused.exception, SettingsError)
    assert "are signed, and this process has no publication_keys" in str(refused.exception)
    events = [entry.event for entry in log.read() if entry.event is not None]  # each is signed
    assert [event.kind for event in events[3:]] == ["rolled_back", "promoted", "rolled_back", "rolled_back", "retired"]
    log.close()

    ensure_topics(servers, [TopicPlan(topics.model_acks)])
    answers = KafkaAcknowledgements(servers, topics.model_acks)
    ack = Acknowledgement(application="web", model="delay", version=2, event_id="e", ok=True, at_us=day(1))
    answers.send(ack)
    answers.send(msgspec.structs.replace(ack, version=3, ok=False, reason="bad digest"))
    assert headrace("live-at", "2013-02-04")["live"]["version"] is None
    then = headrace("live-at", "2100-01-01")
    assert (then["live"]["version"], then["live"]["event"]) == (2, events[6].id)
    assert [(each["where"], each["version"], each["problem"]) for each in then["applications"]] == [
        ("web", 2, "version 3: bad digest")
    ]
    assert "model events" in run.invoke(build(), ["models", "live-at", "delay", "2100-01-01"]).stdout
    assert "give the reason" in str(run.invoke(build(), ["models", "pin", "delay", "--reason", " "]).exception)


def test_data_is_excluded_listed_and_included_again(
    servers: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project(models={namespace: replace(model, name=namespace)})
    monkeypatch.setattr("headrace.app.project.project.load_project", lambda _: project)

    def headrace(*words: str) -> Any:
        return run.invoke(build(), ["data", *words])

    def listed() -> list[dict[str, Any]]:
        found = headrace("exclusions", "--json")
        assert found.exit_code == 0, found.output
        return [row for row in json.loads(found.stdout) if row["model"] == namespace]

    assert listed() == []
    span = ("2024-03-01", "2024-03-02T12:00+02:00")
    done = headrace("exclude", *span, "--reason", "broken", "--model", namespace, "--by", "ann", "--json")
    assert done.exit_code == 0, done.output
    (row,) = listed()
    assert row == json.loads(done.stdout)
    assert (row["from"], row["to"], row["reason"]) == ("2024-03-01T00:00:00Z", "2024-03-02T10:00:00Z", "broken")
    assert row["by"] == "ann"
    assert "broken" in headrace("exclusions").stdout
    assert "is empty" in str(headrace("exclude", "2024-03-02", "2024-03-01", "--reason", "x").exception)
    unknown = headrace("exclude", *span, "--reason", "x", "--model", "no-such-model")
    assert f"the project has no model 'no-such-model'; it has ['{namespace}']" in str(unknown.exception)
    assert "--reason is empty" in str(headrace("include", row["id"], "--reason", " ").exception)
    assert headrace("include", row["id"], "--reason", "was fine").exit_code == 0
    assert listed() == []
    assert "no exclusion" in str(headrace("include", row["id"], "--reason", "?").exception)


@pytest.mark.long
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
        return run.invoke(build(), ["reproduce", namespace, "1", "--json"])

    same = headrace(mine)
    assert same.exit_code == 0, same.output
    assert json.loads(same.stdout) == {
        "model": namespace, "version": 1, "identical": True, "rows": 4_350, "different_rows": 0, "largest": 0.0,
        "differences": [],
    }  # fmt: skip
    other = headrace(replace(mine, train=otherwise))
    assert other.exit_code == 1
    told = json.loads(other.stdout)
    assert not told["identical"]
    assert {each["what"].partition(".")[0] for each in told["differences"]} == {"code", "code_modules"}


def otherwise(X: Any, y: Any, run: Any) -> LogisticRegression:  # noqa: N803
    """Another fit, for a child process to find."""
    del run
    return LogisticRegression(C=0.01).fit(X, y)


def test_an_empty_data_folder_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = run.invoke(build(), ["models", "list", "--data-dir", str(tmp_path / "none")])
    assert isinstance(asked.exception, SettingsError)
    assert not (tmp_path / "none").exists()
