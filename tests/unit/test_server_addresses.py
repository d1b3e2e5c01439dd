"""Where an application finds its servers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from headrace.errors import SettingsError
from headrace.serving import ServerAddresses

if TYPE_CHECKING:
    from pathlib import Path

BOTH = {"HEADRACE_BOOTSTRAP_SERVERS": "k:1", "HEADRACE_REDIS_URL": "redis://r"}


def test_the_environment_beats_the_file(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('redis_url = "redis://file"\nnamespace = "ours"\ntrusted_types = ["a.B"]\n')
    found = ServerAddresses.find(environ={"HEADRACE_BOOTSTRAP_SERVERS": "k:1"}, folder=tmp_path)
    places = [str(tmp_path / ".headrace" / "artifacts")]
    assert found == ServerAddresses("k:1", "redis://file", "ours", ["a.B"], places)
    assert ServerAddresses.find(environ=BOTH, folder=tmp_path).redis_url == "redis://r"


def test_the_file_is_looked_for_upwards(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('namespace = "ours"\n')
    (tmp_path / "deep" / "er").mkdir(parents=True)
    assert ServerAddresses.find(environ=BOTH, folder=tmp_path / "deep" / "er").namespace == "ours"


def test_services_that_run_on_the_data_folder_are_found(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("")
    (tmp_path / ".headrace").mkdir()
    running = {"pid": 1, "bootstrap_servers": "k:2", "redis_url": "redis://two"}
    (tmp_path / ".headrace" / "services.lock").write_text(json.dumps(running))
    places = [str(tmp_path / ".headrace" / "artifacts")]
    found = ServerAddresses.find(environ={}, folder=tmp_path)
    assert found == ServerAddresses("k:2", "redis://two", artifact_places=places)


@pytest.mark.parametrize("text", ["x.Y, z.W", '["x.Y", "z.W"]'])
def test_trusted_types_come_as_a_list_or_as_json(text: str, tmp_path: Path) -> None:
    assert ServerAddresses.find(environ=BOTH | {"HEADRACE_TRUSTED_TYPES": text}, folder=tmp_path).trusted_types == [
        "x.Y",
        "z.W",
    ]


def test_without_addresses_the_error_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("")
    with pytest.raises(SettingsError, match=r"HEADRACE_REDIS_URL.*headrace up"):
        ServerAddresses.find(environ={"HEADRACE_BOOTSTRAP_SERVERS": "k:1"}, folder=tmp_path)
