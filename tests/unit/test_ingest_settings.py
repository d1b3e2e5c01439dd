"""The tables [[ingest]] of headrace.toml: what is taken, and errors that name the entry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from headrace.app.doctor import ingest
from headrace.app.processes.webhook_server import tokens_of
from headrace.app.project.ingest_entries import password_of, stream_of
from headrace.app.project.ingest_settings import IngestSettings, WebhookSettings
from headrace.app.project.project import Project
from headrace.app.project.settings import explain
from headrace.app.project.settings_sources import load_settings
from headrace.app.project_deployment import ProjectDeployment
from headrace.base.redaction import revealed
from headrace.bus.formats.avro import Avro
from headrace.bus.formats.debezium import Debezium
from headrace.bus.formats.json_format import Json
from headrace.bus.table import Table
from headrace.errors import SettingsError
from tests.support.documents import ROOT
from tests.support.payments_stream import Payment, payments

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.project.settings import Settings

HOOK = '[[ingest]]\nname = "hook"\nstream = "payments"\nwebhook = "/payments"\n'
SHOP = '[[ingest]]\nname = "shop"\nstream = "payments"\nfolder = "inbox"\n'


def loaded(folder: Path, text: str, **environ: str) -> Settings:
    (folder / "headrace.toml").write_text(text)
    return load_settings(environ=environ, folder=folder)


def test_each_table_is_a_source(tmp_path: Path) -> None:
    more = (
        '[[ingest]]\nname = "bank"\nstream = "payments"\nfolder = "/in"\nformat = "csv"\nzone = "UTC"\nsettle = "1m"\n'
    )
    shop, bank = loaded(tmp_path, SHOP + more).ingest
    assert (shop.name, shop.stream, str(shop.folder), shop.format, shop.zone) == (
        "shop", "payments", "inbox", None, None,
    )  # fmt: skip
    assert (bank.format, bank.zone, bank.settle) == ("csv", "UTC", "1m")
    assert loaded(tmp_path, "").ingest == []


def test_the_environment_has_them_as_json(tmp_path: Path) -> None:
    text = '[{"name": "shop", "stream": "payments", "folder": "inbox"}]'
    (entry,) = loaded(tmp_path, "", HEADRACE_INGEST=text).ingest
    assert entry.name == "shop"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (
            'name = "a"\nstream = "s"\n',
            "[[ingest]] 2 ('a'): Value error, it has none of `folder`",
        ),
        ('name = "a"\nstream = "s"\nfolder = "f"\nwebhook = "/a"\n', "it has `folder` and `webhook` of `folder`"),
        ('name = "a"\nstream = "s"\nwebhook = "/a"\nzone = "UTC"\n', "a webhook has no 'zone'"),
        ('name = "a"\nstream = "s"\nwebhook = "a b"\n', "[[ingest]] 2 ('a'), webhook = 'a b': String should match"),
        ('stream = "s"\nfolder = "f"\n', "[[ingest]] 2, name: Field required"),
        ('name = "A b"\nstream = "s"\nfolder = "f"\n', "[[ingest]] 2 ('A b'), name = 'A b': String should match"),
        ('name = "a"\nstream = "s"\nfolder = "f"\nformat = "xml"\n', "[[ingest]] 2 ('a'), format = 'xml': Input"),
        ('name = "a"\nstream = "s"\nfolder = "f"\nsettle = "soon"\n', "[[ingest]] 2 ('a'), settle = 'soon': "),
        ('name = "a"\nstream = "s"\nfolder = "f"\nzone = "Mars"\n', "'Mars' is no time zone"),
        ('name = "a"\nstream = "s"\nfolder = "f"\npassword = "hunter2"\n', "[[ingest]] 2 ('a'), password = ***: Extra"),
        (
            'name = "a"\nstream = "s"\npostgres = "postgresql://r@d/s"\nkey = 5\n',
            'key = 5: Value error, write the name of a column, such as "id", or a list such as ["shop", "id"]',
        ),
        ('name = "a"\nstream = "s"\npostgres = "postgresql://r@d/s"\nkey = ["id", 5]\n', "write the name of a column"),
        ('name = "shop"\nstream = "s"\nfolder = "f"\n', "two tables [[ingest]] have the name 'shop'"),
    ],
)
def test_a_wrong_table_is_named_by_its_place_and_its_name(tmp_path: Path, wrong: str, said: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)) as found:
        loaded(tmp_path, f"{SHOP}[[ingest]]\n{wrong}")
    assert "hunter2" not in str(found.value)


def test_another_value_than_tables_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ingest"):
        loaded(tmp_path, 'ingest = ["inbox"]\n')
    with pytest.raises(SettingsError, match=r"sets 'ingest\.folder'"):
        loaded(tmp_path, '[ingest]\nfolder = "inbox"\n')


def test_an_entry_that_does_not_fit_the_project_is_named(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SHOP)
    own = Project({"payments": payments(Avro())})
    with pytest.raises(
        SettingsError, match=r"\[\[ingest\]\] 1 \('shop'\).*has no stream of that topic; it has \['b'\]"
    ):
        stream_of(settings, 0, Project({"b": payments(Avro())}))
    with pytest.raises(SettingsError, match=r"\[\[ingest\]\] 1 \('shop'\).*no event can be produced"):
        stream_of(settings, 0, own)
    with pytest.raises(SettingsError, match=r"\[\[ingest\]\] 1 \('shop'\).*no event can be produced"):
        stream_of(settings, 0, Project({"payments": payments(Debezium())}))


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SHOP)
    project = Project({"payments": payments(Json())})
    with pytest.raises(SettingsError, match=r"\[\[ingest\]\] 1 \('shop'\).*there is no such folder"):
        stream_of(settings, 0, project)
    (tmp_path / "inbox").mkdir()
    assert stream_of(settings, 0, project).topic == "payments"


DATABASE = """[[ingest]]
name = "till"
stream = "payments"
postgres = "postgresql://reader:hunter2@127.0.0.1:1/shop"
table = "shop.payments"
watermark = "id"
key = "id"
"""
TOPIC = """[[ingest]]
name = "shops"
stream = "payments"
topic = "shops"
bootstrap_servers = "127.0.0.1:1"
kafka = {security = {protocol = "SASL_SSL"}, "sasl.password" = "hunter2"}
"""


def test_secrets_of_entries_are_shown_nowhere(tmp_path: Path) -> None:
    settings = loaded(tmp_path, DATABASE + TOPIC)
    database, topic = settings.ingest
    assert (database.key, database.lag, database.kind, topic.kind) == (["id"], "5s", "postgres", "topic")
    assert revealed(database.postgres or "") == "postgresql://reader:hunter2@127.0.0.1:1/shop"
    assert topic.kafka == {"security.protocol": "SASL_SSL", "sasl.password": "hunter2"}
    assert "hunter2" not in f"{settings!r} {explain(settings)} {database} {settings.model_dump_json()}"


@pytest.mark.parametrize(
    ("entry", "old", "new", "said"),
    [
        (DATABASE, 'postgres = "postgresql://', 'postgres = "mysql://', "[[ingest]] 1 ('till'), postgres = ***: Value"),
        (DATABASE, 'table = "shop.payments"\n', "", "neither of `table` and `query`, or both"),
        (DATABASE, 'watermark = "id"\n', "", "give the `watermark`"),
        (DATABASE, 'key = "id"\n', "", "and the `key`"),
        (DATABASE, "[[ingest]]", '[[ingest]]\npassword_file = "a"\npassword_env = "A"', "are the same secret"),
        (DATABASE, "[[ingest]]", '[[ingest]]\nsettle = "1s"', "a postgres has no 'settle'"),
        (TOPIC, "[[ingest]]", '[[ingest]]\nformat = "csv"', "format = 'csv' is none of a topic: json, cloudevents"),
        (TOPIC, 'bootstrap_servers = "127.0.0.1:1"\n', "", "`kafka` has the properties of `bootstrap_servers`"),
        (TOPIC, "security = {", '"group.id" = "mine", security = {', "kafka = ***: Value error, kafka.group.id: head"),
        (TOPIC, 'topic = "shops"', 'topic = "shops"\nwatermark = "id"', "a topic has no 'watermark'"),
    ],
)
def test_a_wrong_entry_of_a_database_or_a_topic_is_named(
    tmp_path: Path, entry: str, old: str, new: str, said: str
) -> None:
    with pytest.raises(SettingsError, match=re.escape(said)) as found:
        loaded(tmp_path, entry.replace(old, new, 1))
    assert "hunter2" not in str(found.value)


def test_a_topic_is_not_copied_to_itself(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="copied for ever"):
        loaded(tmp_path, '[[ingest]]\nname = "a"\nstream = "payments"\ntopic = "payments"\n')


def test_the_needs_of_a_database_or_a_topic_are_looked_for_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project({"payments": payments(Json())})
    settings = loaded(tmp_path, DATABASE + 'password_env = "SHOP_SECRET"\n')
    monkeypatch.delenv("SHOP_SECRET", raising=False)
    with pytest.raises(SettingsError, match=r"1 \('till'\).*password_env = 'SHOP_SECRET': the environment has no such"):
        stream_of(settings, 0, project)
    monkeypatch.setenv("SHOP_SECRET", "hunter2")
    assert stream_of(settings, 0, project).topic == "payments"
    assert password_of(settings, 0) == "hunter2"
    settings = loaded(tmp_path, DATABASE + 'password_file = "secret"\n')
    with pytest.raises(SettingsError, match=r"1 \('till'\).*password_file: .*secret cannot be read"):
        stream_of(settings, 0, project)
    (tmp_path / "secret").write_text("hunter3\n")
    assert password_of(settings, 0) == "hunter3"
    settings = loaded(tmp_path, TOPIC + 'format = "avro"\n')
    with pytest.raises(SettingsError, match=r"1 \('shops'\).*its records cannot be read.*schema_registry"):
        stream_of(settings, 0, project)
    table = Table("payments", Payment, key="card", event_time="at")
    with pytest.raises(SettingsError, match="'payments' is a table"):
        stream_of(loaded(tmp_path, TOPIC), 0, Project({"payments": table}))


def test_the_doctor_and_the_plan_know_the_entries(tmp_path: Path) -> None:
    settings = loaded(tmp_path, SHOP + DATABASE + TOPIC + HOOK)
    subjects = ["ingest shop", "ingest till", "ingest shops", "ingest hook"]
    missing = list(ingest.examine(settings, Project({}), None))
    assert [(each.subject, each.severity) for each in missing] == [(name, "error") for name in subjects]
    assert "the project has no stream of that topic" in missing[1].found
    (shop, till, *_, hook) = ingest.examine(settings, Project({"payments": payments(Json())}), None)
    assert "there is no such folder" in shop.found
    assert (till.severity, "hunter2" in till.found) == ("error", False)
    assert (hook.severity, hook.found) == ("ok", "webhook to payments")
    with pytest.raises(SettingsError, match=r"1 \('shop'\).*has no stream of that topic"):
        ProjectDeployment(settings)


def test_two_webhooks_have_two_paths(tmp_path: Path) -> None:
    assert loaded(tmp_path, HOOK).ingest[0].webhook == "/payments"
    with pytest.raises(SettingsError, match=re.escape("two tables [[ingest]] have the webhook '/payments'")):
        loaded(tmp_path, HOOK + HOOK.replace("hook", "other", 1))


def test_tokens_are_needed_where_others_can_post(tmp_path: Path) -> None:
    assert tokens_of(loaded(tmp_path, HOOK)) == ()
    with pytest.raises(SettingsError, match=r"webhook\.host = '0\.0\.0\.0' \(from headrace\.toml\).*Set a token"):
        tokens_of(loaded(tmp_path, HOOK + '[webhook]\nhost = "0.0.0.0"\n'))
    own = loaded(tmp_path, HOOK + '[webhook]\nhost = "0.0.0.0"\n', HEADRACE_WEBHOOK__TOKEN="hunter2")
    assert tokens_of(own) == ("hunter2",)
    assert "hunter2" not in str(explain(own))
    (tmp_path / "tokens").write_text("# of the bank\none\ntwo\n")
    assert tokens_of(loaded(tmp_path, HOOK + '[webhook]\ntoken_file = "tokens"\n')) == ("one", "two")
    with pytest.raises(SettingsError, match=r"webhook\.token_file .*cannot be read"):
        tokens_of(loaded(tmp_path, HOOK + '[webhook]\ntoken_file = "none"\n'))


def test_the_page_has_a_row_for_each_setting() -> None:
    page = (ROOT / "docs" / "how-to" / "ingest.md").read_text("utf-8")
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert named >= IngestSettings.model_fields.keys() | WebhookSettings.model_fields.keys()
