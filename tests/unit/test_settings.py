from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.app.project.settings import Settings, explain, leaves
from headrace.app.project.settings_sources import load_settings
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path


def project(tmp_path: Path, text: str = "") -> Path:
    (tmp_path / "headrace.toml").write_text(text)
    return tmp_path


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    folder = project(tmp_path, 'namespace = "file"\nbatch_size = 7\ntick = "2m"\n')
    environ = {"HEADRACE_NAMESPACE": "env", "HEADRACE_BATCH_SIZE": "8"}
    settings = load_settings({"namespace": "flag", "redis_url": None}, environ=environ, folder=folder)
    assert (settings.namespace, settings.batch_size, settings.tick, settings.clock) == ("flag", 8, "2m", "wall")
    assert settings.origin("namespace") == "flag --namespace"
    assert settings.origin("batch_size") == "environment HEADRACE_BATCH_SIZE"
    assert settings.origin("tick") == "headrace.toml"
    assert settings.origin("clock") == "default"
    assert settings.origin("redis_url") == "default"


def test_nested_settings_and_lists_come_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "HEADRACE_PROJECT__STREAMS": "arrivals, weather",
        "HEADRACE_TRUSTED_TYPES": '["a.B"]',
        "HEADRACE_DEMO__MONTHS": "12",
        "HEADRACE_REDIS_URL": "",  # empty: not set
        "PATH": "/bin",
    }
    settings = load_settings(environ=environ, folder=project(tmp_path))
    assert settings.project.streams == ["arrivals", "weather"]
    assert settings.trusted_types == ["a.B"]
    assert settings.demo.months == 12
    assert settings.redis_url is None


def test_the_file_is_found_from_below_and_anchors_the_folders(tmp_path: Path) -> None:
    below = project(tmp_path, 'artifacts = "kept"\n') / "a" / "b"
    below.mkdir(parents=True)
    settings = load_settings(environ={}, folder=below)
    assert settings.root == tmp_path
    assert settings.data_dir == tmp_path / ".headrace"
    assert settings.event_log == str(tmp_path / ".headrace" / "events")
    assert settings.registry_uri == f"sqlite:///{tmp_path}/.headrace/registry/mlflow.db"
    assert settings.artifacts == str(tmp_path / "kept")


def test_urls_in_settings_are_kept_unchanged(tmp_path: Path) -> None:
    settings = Settings(root=tmp_path, event_log="s3://bucket/events")
    assert settings.event_log == "s3://bucket/events"


def test_settings_read_nothing_but_their_arguments(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_NAMESPACE", "env")
    monkeypatch.chdir(project(tmp_path, 'namespace = "file"\n'))
    assert Settings().namespace == "headrace"


@pytest.mark.parametrize(
    ("text", "environ", "wanted"),
    [
        ("speed = 1\n", {}, "'speed', which headrace does not know; it knows root, namespace"),
        ("[demo]\nyears = 1\n", {}, "'demo.years'"),
        ("", {"HEADRACE_SPEED": "1"}, "the environment sets 'HEADRACE_SPEED'"),
        ("", {"HEADRACE_TICK": "soon"}, "tick = 'soon' (from environment HEADRACE_TICK)"),
        ("batch_size = 0\n", {}, "batch_size = 0 (from headrace.toml): Input should be greater than 0"),
        ('namespace = "a b"\n', {}, "namespace = 'a b'"),
        ("", {"HEADRACE_TRUSTED_TYPES": "[1"}, "HEADRACE_TRUSTED_TYPES is neither JSON nor a,b,c"),
        ("= 1", {}, "is not TOML"),
        ("project = 1\n", {}, "'project'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_origin(
    tmp_path: Path, text: str, environ: dict[str, str], wanted: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(environ=environ, folder=project(tmp_path, text))
    assert wanted in str(caught.value)


def test_every_setting_is_described_and_passwords_are_hidden(tmp_path: Path) -> None:
    assert all(leaves().values())
    settings = load_settings(
        {"redis_url": "redis://u:sec:ret@host/0?password=secret"}, environ={}, folder=project(tmp_path)
    )
    rows = {row["name"]: row for row in explain(settings)}
    assert rows.keys() == leaves().keys()
    assert rows["redis_url"]["value"] == "redis://u:***@host/0?password=***"
