"""Addresses that cannot be read are a clear error in every setting, without the password."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.terminal.options import settings_from
from headrace.base.place_names import check_servers
from headrace.errors import SettingsError
from headrace.features.online.redis.url import check_url

REDIS = [
    "redis://u:se/cret@h:1", "redis+sentinel://u:secret@h:26379", "redis://:secret@a:1,b:2/0", "redis://:secret@a,b/0",
    "valkey://:secret@h:1", "h:6379", "redis://h:x", "redis://h:99999", "redis://h/abc", "redis://h h:1", "redis://[::1",
    "redis://%zz:1", "http://h", "redis://h/0?nonsense=1", "redis://h/0?socket_timeout=abc", "unix://",
    "redis+sentinel://s:1", "redis+sentinel://s:1,,t:1/m", "redis+sentinel://s:x/m", "redis+sentinel://s/m/x",
    "redis+sentinel://u:secret@s/m?nonsense=1", "redis+sentinel:///m",
]  # fmt: skip
KAFKA = ["kafka://h:9092", "h:x", "h:0", "h:65536", "h 1:9092", "h:9092,,i:9092", "h:9092;i:9092", ":9092", "h:9092/x"]


@pytest.mark.parametrize("url", REDIS)
def test_a_redis_url_that_cannot_be_read_is_a_clear_error(url: str) -> None:
    for ask in (lambda: check_url(url), lambda: settings_from(redis_url=url)):
        with pytest.raises(SettingsError, match=r"wanted redis://") as said:
            ask()
        assert "secret" not in str(said.value)
        assert "se/cret" not in str(said.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h", "redis://", "rediss://u:p@h:1/2", "redis+cluster://h:1", "unix:///run/redis.sock", "redis://[::1]:6379",
        "redis://h:1/?db=2", "redis://h:1/0?socket_timeout=5", "redis+sentinel://s/m",
        "rediss+sentinel://u:p@s:1,t:2/m/3?sentinel_password=x",
    ],
)  # fmt: skip
def test_a_redis_url_that_can_be_read_is_taken(url: str) -> None:
    check_url(url)


@pytest.mark.parametrize("command", [["ping"], ["worker"], ["trainer"], ["config", "--explain"], ["up"], ["repair"]])
@pytest.mark.parametrize("name", ["redis_url", "bootstrap_servers"])
def test_every_command_refuses_it_by_the_settings_name(
    command: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"HEADRACE_{name.upper()}", "valkey://:secret@h:1" if name == "redis_url" else "h:x")
    done = CliRunner().invoke(build(), command)
    assert isinstance(done.exception, SettingsError)
    assert f"HEADRACE_{name.upper()}" in str(done.exception)
    assert "secret" not in str(done.exception)


@pytest.mark.parametrize("servers", KAFKA)
def test_a_kafka_address_that_cannot_be_read_is_a_clear_error(servers: str) -> None:
    with pytest.raises(SettingsError, match="wanted a list such as"):
        check_servers(servers)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for check in (check_servers, check_url):
        with suppress(SettingsError):
            check(text)


@pytest.mark.parametrize("servers", ["h", "h:9092", "a:1,b:2", "a:1, b:2", "[::1]:9092", "SASL_SSL://a.b-c_d:9093"])
def test_a_kafka_address_that_can_be_read_is_taken(servers: str) -> None:
    check_servers(servers)
