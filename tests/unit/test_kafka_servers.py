"""The properties of Kafka's clients: where they come from, what is refused, and what is never shown."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import keyring
import pytest
from keyring.backend import KeyringBackend

from headrace.app.project.settings import explain
from headrace.app.project.settings_sources import load_settings
from headrace.bus import kafka_clients
from headrace.bus.kafka_servers import KafkaServers, kafka_properties, read_secrets, shown
from headrace.errors import SettingsError
from headrace.serving import ServerAddresses

if TYPE_CHECKING:
    from pathlib import Path

TOML = """
bootstrap_servers = "kafka:9093"
redis_url = "redis://redis"
[kafka]
security.protocol = "SASL_SSL"
"sasl.username" = "app"
socket.keepalive.enable = true
"""
ENVIRONMENT = {"HEADRACE_KAFKA__SASL_PASSWORD": "hunter2", "HEADRACE_KAFKA__SASL_USERNAME": "other"}
EXPECTED = {
    "security.protocol": "SASL_SSL",
    "sasl.username": "other",
    "sasl.password": "hunter2",
    "socket.keepalive.enable": "true",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "headrace.toml").write_text(TOML)
    return tmp_path


def test_the_file_and_the_environment_give_the_properties_and_the_environment_wins(project: Path) -> None:
    settings = load_settings(environ=ENVIRONMENT, folder=project)
    assert settings.kafka_servers is not None
    assert settings.kafka_servers.properties == EXPECTED
    places = ["headrace.toml", "environment HEADRACE_KAFKA__SASL_USERNAME", "environment HEADRACE_KAFKA__SASL_PASSWORD"]
    assert settings.origin("kafka") == ", ".join(places)


def test_an_application_finds_the_same_properties(project: Path) -> None:
    found = ServerAddresses.find(environ=ENVIRONMENT, folder=project)
    assert isinstance(found.bootstrap_servers, KafkaServers)
    assert found.bootstrap_servers.properties == EXPECTED
    assert "hunter2" not in repr(found)


def test_local_services_have_no_properties(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('[kafka]\nsecurity.protocol = "SSL"\n')
    assert load_settings(environ={}, folder=tmp_path).kafka_servers is None


def test_a_secret_is_never_shown(project: Path) -> None:
    settings = load_settings(environ=ENVIRONMENT, folder=project)
    row = next(row for row in explain(settings) if row["name"] == "kafka")
    assert row["value"] == shown(EXPECTED) == {**EXPECTED, "sasl.password": "***"}
    assert "hunter2" not in repr(settings)
    assert f"{settings.kafka_servers}" == "kafka:9093"


def test_another_process_gets_the_properties_too() -> None:
    found = pickle.loads(pickle.dumps(KafkaServers("kafka:9093", EXPECTED)))
    assert (found, found.properties) == ("kafka:9093", EXPECTED)


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter2\n")
    assert read_secrets({"sasl.password.file": "password"}, tmp_path) == {"sasl.password": "hunter2"}


class Drawer(KeyringBackend):
    """A keyring in memory, in place of the machine's own."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.kept[service, username] = password


def test_a_secret_may_lie_in_the_keyring(tmp_path: Path) -> None:
    before = keyring.get_keyring()
    keyring.set_keyring(Drawer())
    try:
        keyring.set_password("kafka", "app", "hunter2")
        assert read_secrets({"sasl.password.keyring": "kafka/app"}, tmp_path) == {"sasl.password": "hunter2"}
        with pytest.raises(SettingsError, match=r"keyring set kafka other"):
            read_secrets({"sasl.password.keyring": "kafka/other"}, tmp_path)
        with pytest.raises(SettingsError, match=r"no service/user"):
            read_secrets({"sasl.password.keyring": "kafka"}, tmp_path)
    finally:
        keyring.set_keyring(before)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"group.id": "mine"}, "kafka.group.id: headrace sets this property itself"),
        ({"enable.auto.commit": True}, "kafka.enable.auto.commit"),
        ({"sasl": {"password": "a", "password.file": "b"}}, "the same secret"),
        ({"oauth": "shop.tokens"}, "no module:function"),
        ({"ssl.ca.location": ["a", "b"]}, "kafka.ssl.ca.location"),
    ],
)
def test_wrong_properties_are_refused_by_name(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=says):
        kafka_properties(given)
    lines = "".join(f"{name!r} = {str(value).lower()}\n" for name, value in given.items() if value is True)
    if lines:
        (tmp_path / "headrace.toml").write_text(f"[kafka]\n{lines}")
        with pytest.raises(SettingsError, match=says):
            load_settings(environ={}, folder=tmp_path)


def test_a_secrets_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"kafka\.sasl\.password\.file: .*nowhere cannot be read"):
        read_secrets({"sasl.password.file": "nowhere"}, tmp_path)


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({"sasl.mechnism": "PLAIN"}, 'No such configuration property: "sasl.mechnism"'),
        ({"security.protocol": "SASLX"}, "Invalid value"),
        ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere"}, "ssl.ca.location failed"),
        ({"oauth": "headrace_has_no_such:function"}, "cannot be imported"),
    ],
)
def test_a_property_that_kafkas_client_does_not_take_is_a_wrong_setting(properties: dict[str, str], says: str) -> None:
    servers = KafkaServers("127.0.0.1:1", properties)
    for make in (kafka_clients.producer, kafka_clients.consumer):
        with pytest.raises(SettingsError, match=says):
            make(servers, {"group.id": "g"} if make is kafka_clients.consumer else {})
    with pytest.raises(SettingsError, match=says):
        kafka_clients.admin(servers)
