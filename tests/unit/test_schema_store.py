"""Schemas are found by their ids: once, also without the registry, and never instead of waiting for it."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from headrace.app.project.settings_sources import load_settings
from headrace.base.redaction import revealed
from headrace.bus.schemas import schema_store
from headrace.bus.schemas.confluent_schema_registry import ConfluentSchemaRegistry
from headrace.bus.schemas.registry_access import SchemaRegistryAccess
from headrace.bus.schemas.schema_store import SchemaStore
from headrace.errors import CodecError, SchemaRegistryUnavailableError, SettingsError, TerminalError
from headrace.serving.server_addresses import ServerAddresses
from tests.support.schema_registries import HttpSchemaRegistry, MemorySchemaRegistry, http_schema_registry

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.bus.schemas.schema_registry import RegisteredSchema

SCHEMA = '"string"'


@pytest.fixture
def registry() -> MemorySchemaRegistry:
    found = MemorySchemaRegistry()
    found.add(SCHEMA)
    return found


@pytest.fixture
def server() -> Iterator[HttpSchemaRegistry]:
    with http_schema_registry() as found:
        yield found


def test_a_schema_is_asked_for_once(registry: MemorySchemaRegistry) -> None:
    schemas = SchemaStore(registry)
    assert [schemas.schema(1).text for _ in range(3)] == [SCHEMA] * 3
    assert registry.asked == [1]


def test_a_schema_that_was_found_once_needs_no_registry_after_a_restart(
    registry: MemorySchemaRegistry, tmp_path: Path
) -> None:
    SchemaStore(registry, tmp_path).schema(1)
    registry.is_away = True
    assert SchemaStore(registry, tmp_path).schema(1).text == SCHEMA
    other = MemorySchemaRegistry()
    other.url = "http://others"
    with pytest.raises(CodecError, match="has no schema with the id 1"):
        SchemaStore(other, tmp_path).schema(1)


def test_a_file_that_is_no_schema_is_as_if_it_were_not_there(registry: MemorySchemaRegistry, tmp_path: Path) -> None:
    SchemaStore(registry, tmp_path).schema(1)
    (file,) = tmp_path.rglob("*.json")
    file.write_text("{")
    assert SchemaStore(registry, tmp_path).schema(1).text == SCHEMA
    assert registry.asked == [1, 1]


def test_a_folder_that_cannot_be_written_does_not_matter(registry: MemorySchemaRegistry, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert SchemaStore(registry, tmp_path / "file").schema(1).text == SCHEMA


def test_a_registry_that_is_away_is_asked_again(registry: MemorySchemaRegistry) -> None:
    schemas = SchemaStore(registry)
    registry.is_away = True
    for _ in range(2):
        with pytest.raises(SchemaRegistryUnavailableError, match=r"schema with the id 1 .*connection refused"):
            schemas.schema(1)
    registry.is_away = False
    assert schemas.schema(1).text == SCHEMA


def test_nobody_waits_who_does_not_want_to(registry: MemorySchemaRegistry) -> None:
    import threading

    answers = threading.Event()
    found = registry.schema

    def slowly(schema_id: int) -> RegisteredSchema | None:
        answers.wait()
        return found(schema_id)

    registry.schema = slowly  # type: ignore[method-assign]
    schemas = SchemaStore(registry)
    with pytest.raises(SchemaRegistryUnavailableError, match="it has not answered yet"):
        schemas.schema(1, wait_s=0)
    answers.set()
    assert schemas.schema(1).text == SCHEMA
    assert registry.asked == [1]


def test_an_unknown_id_is_asked_for_again_after_a_minute(registry: MemorySchemaRegistry) -> None:
    now = [0.0]
    schemas = SchemaStore(registry, monotonic=lambda: now[0])
    for second in (0.0, 59.0):
        now[0] = second
        with pytest.raises(CodecError, match="no schema with the id 2"):
            schemas.schema(2)
    registry.add(SCHEMA)
    now[0] = 61.0
    assert schemas.schema(2).id == 2
    assert registry.asked == [2, 2]


def test_an_id_that_was_unknown_a_minute_ago_is_waited_for_if_the_registry_is_away(
    registry: MemorySchemaRegistry,
) -> None:
    now = [0.0]
    schemas = SchemaStore(registry, monotonic=lambda: now[0])
    with pytest.raises(CodecError, match="no schema with the id 2"):
        schemas.schema(2)
    registry.is_away, now[0] = True, 61.0
    with pytest.raises(SchemaRegistryUnavailableError, match="waiting for the schema with the id 2"):
        schemas.schema(2)
    with pytest.raises(CodecError, match="no schema with the id 2"):
        schemas.schema(2, last_word=True)
    with pytest.raises(SchemaRegistryUnavailableError):
        schemas.schema(1, last_word=True)


def test_an_id_that_no_registry_gives_is_not_asked_for(registry: MemorySchemaRegistry) -> None:
    """A registry says of such an id what it says of a wrong address, for which a partition would wait for ever."""
    registry.is_away = True
    with pytest.raises(CodecError, match="no schema with the id 4294967295: the largest id is 2147483647"):
        SchemaStore(registry).schema(2**32 - 1)


def test_ids_that_are_not_there_are_forgotten_in_the_end(
    registry: MemorySchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema_store, "_MOST_UNKNOWN", 3)
    schemas = SchemaStore(registry)
    for number in range(2, 12):
        registry.is_away = number % 2 == 0
        with pytest.raises((CodecError, SchemaRegistryUnavailableError)):
            schemas.schema(number)
    assert (list(schemas._unknown), list(schemas._failed)) == ([7, 9, 11], [6, 8, 10])


def test_a_file_of_another_schema_is_as_if_it_were_not_there(registry: MemorySchemaRegistry, tmp_path: Path) -> None:
    registry.add('"bytes"')
    SchemaStore(registry, tmp_path).schema(1)
    (file,) = tmp_path.rglob("*.json")
    file.rename(file.with_name("2.json"))
    assert SchemaStore(registry, tmp_path).schema(2).text == '"bytes"'


# -- the registry of HTTP ---------------------------------------------------------------------------------------------


def test_a_registry_gives_and_takes_schemas(server: HttpSchemaRegistry) -> None:
    registry = ConfluentSchemaRegistry(SchemaRegistryAccess(server.url, user="app", password="hunter2"))
    number = registry.id_of("a/b value", "AVRO", SCHEMA)
    assert registry.id_of("a/b value", "AVRO", SCHEMA) == number
    assert [found and found.text for found in (registry.schema(number), registry.latest("a/b value"))] == [SCHEMA] * 2
    assert (registry.schema(9), registry.latest("other")) == (None, None)
    assert {"Basic YXBwOmh1bnRlcjI="} == {headers["Authorization"] for headers in server.headers}


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ((404, b"<html>no such page</html>"), "HTTP status 404"),
        ((404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}'), "HTTP 404 Not Found"),
        ((401, b'{"error_code": 401, "message": "Unauthorized"}'), "'Unauthorized'"),
        ((500, b"oops"), "HTTP status 500"),
        ((200, b"<html>a page</html>"), "JSON"),
        ((200, b"{}"), "unknown kind|KeyError|TypeError"),
    ],
)
def test_an_answer_that_says_nothing_of_the_schema_is_waited_for(
    server: HttpSchemaRegistry, answers: tuple[int, bytes], says: str
) -> None:
    server.answers = answers
    registry = ConfluentSchemaRegistry(SchemaRegistryAccess(server.url))
    with pytest.raises(SchemaRegistryUnavailableError, match=says):
        registry.schema(1)


def test_a_schema_that_is_refused_is_told(server: HttpSchemaRegistry) -> None:
    server.answers = (409, b'{"error_code": 409, "message": "field card was removed"}')
    registry = ConfluentSchemaRegistry(SchemaRegistryAccess(server.url))
    with pytest.raises(TerminalError, match=r"refuses the schema: .*field card was removed"):
        registry.id_of("payments-value", "AVRO", SCHEMA)


def test_a_registry_that_is_not_there_is_away() -> None:
    registry = ConfluentSchemaRegistry(SchemaRegistryAccess("http://app:hunter2@127.0.0.1:1"))
    assert "hunter2" not in registry.url
    with pytest.raises(SchemaRegistryUnavailableError, match="refused") as caught:
        registry.schema(1)
    assert "hunter2" not in str(caught.value)


def test_settings_that_the_client_does_not_take_are_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"\[schema_registry\]: the client does not take"):
        ConfluentSchemaRegistry(SchemaRegistryAccess("schemas:8081"))
    with pytest.raises(SettingsError, match=r"\[schema_registry\]"):
        ConfluentSchemaRegistry(SchemaRegistryAccess("https://schemas", ca=str(tmp_path / "none.pem")))


@pytest.mark.parametrize("url", ["ftp://app:hunter2@schemas", "app:hunter2@schemas", "https://app:hunter2@schemas"])
def test_a_password_in_the_url_is_in_no_error_and_no_text(url: str) -> None:
    with pytest.raises(SettingsError, match=r"\[schema_registry\]: the client does not take") as caught:
        ConfluentSchemaRegistry(SchemaRegistryAccess(url, user="app", password="other"))
    assert "hunter2" not in "".join(traceback.format_exception(caught.value))
    if "://" in url:
        assert "hunter2" not in repr(SchemaRegistryAccess(url))
    assert revealed(SchemaRegistryAccess(url).url) == url


# -- the settings -----------------------------------------------------------------------------------------------------


def test_a_worker_and_an_application_have_the_same_access(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "headrace.toml").write_text(
        'bootstrap_servers = "k:1"\nredis_url = "redis://r"\n'
        '[schema_registry]\nurl = "https://schemas"\nuser = "app"\npassword_file = "secret"\nca = "ca.pem"\n'
    )
    environ = {"HEADRACE_SCHEMA_REGISTRY__USER": "other"}
    settings = load_settings(environ=environ, folder=tmp_path)
    found = settings.schema_registry.access(settings.root)
    assert found == SchemaRegistryAccess("https://schemas", "other", "hunter2", str(tmp_path / "ca.pem"))
    assert found == ServerAddresses.find(environ=environ, folder=tmp_path).schema_registry
    assert "hunter2" not in repr(found)
    assert load_settings(environ={}, folder=tmp_path.parent).schema_registry.access(tmp_path) is None


def test_two_passwords_are_one_too_many() -> None:
    with pytest.raises(SettingsError, match=r"schema_registry\.password and password_file are the same secret"):
        SchemaRegistryAccess.of({"url": "http://a", "password": "a", "password_file": "b"}, Path())
    with pytest.raises(SettingsError, match=r"schema_registry\.uri: there is no such setting"):
        SchemaRegistryAccess.of({"uri": "http://a"}, Path())
