"""`headrace schema pull | push | check` against a schema registry of HTTP."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.doctor.schemas import examine
from headrace.app.project.project import load_project
from headrace.app.project.settings import Settings
from headrace.app.project.settings_sources import load_settings
from headrace.errors import SettingsError, TerminalError
from tests.support.schema_registries import HttpSchemaRegistry, http_schema_registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECT = """
from datetime import datetime
from headrace import Avro, Event, JsonSchema, Stream

class Payment(Event):
    card: str
    at: datetime
    amount: float = 0.0

payments = Stream("payments", Payment, event_time="at", format=Avro())
others = Stream("others", Payment, event_time="at", format=JsonSchema(subject="own"))
plain = Stream("plain", Payment, event_time="at")
"""
FIRST = {
    "type": "record",
    "name": "Payment",
    "fields": [
        {"name": "card", "type": "string"},
        {"name": "paidAt", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    ],
}


@pytest.fixture
def server() -> Iterator[HttpSchemaRegistry]:
    with http_schema_registry() as found:
        yield found


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: HttpSchemaRegistry) -> None:
    name = f"project_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{name}.py").write_text(PROJECT)
    modules = f'streams = ["{name}"]\nfeatures = []\ntrainers = []\n'
    (tmp_path / "headrace.toml").write_text(f'[project]\n{modules}[schema_registry]\nurl = "{server.url}"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))


def headrace(*arguments: str, code: int = 0) -> str:
    found = CliRunner().invoke(build(), ["schema", *arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == code, found.output
    return found.stdout


def test_a_pulled_class_is_the_source_text_of_a_stream(server: HttpSchemaRegistry) -> None:
    server.register("shop.payments-value", {"schema": json.dumps(FIRST)})
    text = headrace("pull", "shop.payments-value")
    world: dict[str, Any] = {"__name__": "pulled"}
    exec(compile(text, "pulled", "exec", dont_inherit=True), world)
    assert world["shop_payments"].spec.kinds == {"card": "str", "paid_at": "datetime"}
    assert world["shop_payments"].spec.format == "avro"
    with pytest.raises(TerminalError, match="has no subject 'nothing-value'"):
        headrace("pull", "nothing-value")


def test_a_pushed_schema_has_an_id_and_is_pushed_once(server: HttpSchemaRegistry) -> None:
    assert headrace("push", "payments") == headrace("push", "payments") == "payments-value: id 1\n"
    assert headrace("push", "others") == "own: id 2\n"
    assert [each.get("schemaType", "AVRO") for each in server.schemas] == ["AVRO", "JSON"]
    with pytest.raises(TerminalError, match="no stream of the project reads 'plain' in a format with a schema"):
        headrace("push", "plain")


def test_a_check_says_what_the_newest_schema_lacks_and_what_the_registry_would_take(server: HttpSchemaRegistry) -> None:
    assert [row["read"] for row in json.loads(headrace("check", "--json"))] == ["no schema yet"] * 2
    headrace("push", "others")
    server.register("payments-value", {"schema": json.dumps(FIRST)})
    server.incompatible.add("payments-value")
    assert json.loads(headrace("check", "--json", code=1)) == [
        {
            "topic": "payments", "subject": "payments-value", "newest": 2, "read": "lacks at",
            "write": "the registry would refuse it",
        },
        {"topic": "others", "subject": "own", "newest": 1, "read": "ok", "write": "ok"},
    ]  # fmt: skip


def test_without_a_registry_the_commands_say_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text("")
    with pytest.raises(SettingsError, match=r"set url in \[schema_registry\]"):
        headrace("pull", "payments-value")


def diagnosed() -> list[tuple[str, str]]:
    """The severities and the findings of the doctor about schemas."""
    settings = load_settings(environ={})
    return [(each.severity.value, each.found) for each in examine(settings, load_project(settings).streams.values())]


def test_the_doctor_names_a_schema_that_does_not_fit_and_a_registry_that_is_away(server: HttpSchemaRegistry) -> None:
    server.register("payments-value", {"schema": json.dumps(FIRST)})
    assert diagnosed() == [
        ("error", "the newest schema of 'payments-value' (id 1) lacks at of Payment"),
        ("warning", "the schema registry has no subject 'own' for 'others'"),
    ]
    headrace("push", "others")
    assert diagnosed()[1] == ("ok", "'others' reads the newest schema of 'own' (id 2)")
    server.answers = (401, b'{"error_code": 401, "message": "Unauthorized"}')
    ((severity, said),) = diagnosed()
    assert severity == "error"
    assert said.endswith("does not answer: it says 'Unauthorized' (HTTP status 401)")


def test_the_doctor_says_that_a_stream_needs_a_registry(tmp_path: Path) -> None:
    settings = load_settings(environ={})
    streams = load_project(settings).streams.values()
    (found,) = examine(Settings(root=tmp_path), streams)
    assert "'payments' needs a schema registry" in found.found
    assert list(examine(Settings(root=tmp_path), [each for each in streams if each.topic == "plain"])) == []
