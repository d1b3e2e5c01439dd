"""`headrace models` on real Kafka."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.errors import HeadraceError, SettingsError
from headrace.models.events import ManifestRef
from headrace.models.kafka_event_log import KafkaModelEventLog, ensure_topic
from headrace.models.manifest import encode, hash_of
from tests.model_events import MANIFEST, published

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration
run = CliRunner()


def test_list_and_show(services: Any, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    path = tmp_path / "manifest 1.json"
    path.write_bytes(encode(MANIFEST))
    event = published(
        f"{namespace}-a", 1, expects=None, manifest=ManifestRef(uri=path.as_uri(), hash=hash_of(MANIFEST))
    )
    ensure_topic(services.bootstrap_servers)
    log = KafkaModelEventLog(services.bootstrap_servers)
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


def test_an_empty_data_folder_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    asked = run.invoke(build(), ["models", "list", "--data-dir", str(tmp_path / "none")])
    assert isinstance(asked.exception, SettingsError)
    assert not (tmp_path / "none").exists()
