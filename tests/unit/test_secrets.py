"""No secret is in a log line, an error, an output, a file of headrace, or the text of an object."""

from __future__ import annotations

import io
import json
import logging
import pickle
import stat
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.local.lock import Addresses, FolderLock, make_private, running
from headrace.app.processes.http_server import options
from headrace.app.project.settings import Settings
from headrace.app.project.settings_sources import load_settings
from headrace.app.terminal.logs import configure_logs
from headrace.base.redaction import SecretUrl, redacted, revealed, shortened, without_secrets
from headrace.errors import HeadraceError, SettingsError
from headrace.models.mlflow_registry import MlflowRegistry
from headrace.serving.server_addresses import ServerAddresses
from headrace.streams.worker import WorkerConfig
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request
from tests.support.registry_runs import ready_database

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("restored_logs")
CANARY = "Canary-5f1d"
REDIS = f"redis://worker:{CANARY}@127.0.0.1:1/0"
ENVIRONMENT = {
    "HEADRACE_REDIS_URL": REDIS,
    "HEADRACE_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    "HEADRACE_REGISTRY_URI": f"postgresql://mlflow:{CANARY}@127.0.0.1/mlflow",
    "HEADRACE_HTTP__API_KEY": CANARY,
    "HEADRACE_HTTP__TLS_KEY_PASSWORD": CANARY,
    "HEADRACE_SCHEMA_REGISTRY__URL": f"http://app:{CANARY}@127.0.0.1:1",
    "HEADRACE_SCHEMA_REGISTRY__PASSWORD": CANARY,
}


# -- logs --------------------------------------------------------------------------------------------------------------


def failing(secret: str) -> None:
    """Has the secret in its local variables, as has a client that connects, and a handler of a request."""
    header = {"x-api-key": secret}
    rows = [secret] * 1_000
    try:
        dict.fromkeys(rows)[header["user"]]
    except KeyError as error:
        raise ConnectionError(f"redis://worker:{secret}@db:6379/0 is away after {len(rows)} rows") from error


def logged(write: Callable[[], None], *, as_json: bool) -> str:
    """The text that is logged while a function runs and raises."""
    stream, before = io.StringIO(), sys.stderr
    sys.stderr = stream
    try:
        configure_logs(json=as_json, colors=False)
        write()
    finally:
        sys.stderr = before
    return stream.getvalue()


def from_each_side() -> None:
    try:
        failing(CANARY)
    except ConnectionError:
        structlog.get_logger("ours").exception("it failed", address=f"at {REDIS}", given=SecretUrl(REDIS))
        logging.getLogger("theirs").exception("it failed with %s", REDIS)


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_in_the_log_has_no_local_variables_and_no_passwords(as_json: bool) -> None:
    text = logged(from_each_side, as_json=as_json)
    assert text.count("ConnectionError") >= 2, "both tracebacks are there, with their causes"
    assert "KeyError" in text
    assert CANARY not in text
    assert "x-api-key" not in text


def test_a_line_has_a_bound_whatever_an_error_says() -> None:
    def fails() -> None:
        try:
            float(f"a frame: {'1.5, ' * 5_000}the end")
        except ValueError:
            structlog.get_logger("ours").exception("run failed", rows="7" * 50_000)

    (line,) = logged(fails, as_json=True).splitlines()
    assert len(line) < 16_000
    (found,) = json.loads(line)["exception"]
    assert found["exc_value"].endswith("the end'"), "the end of an error says most"
    assert "characters are left out" in found["exc_value"]


@given(st.text(), st.integers(0, 50))
def test_shortened_text_keeps_its_ends(text: str, longest: int) -> None:
    short = shortened(text, longest)
    assert short == text if len(text) <= longest else short.startswith(text[: longest // 2])
    assert len(short) <= longest + 60


# -- the type ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("show", [str, repr, format, "%s".__mod__, "{}".format, lambda url: f"{[url]}"])
def test_a_secret_url_prints_as_stars(show: Callable[[Any], str]) -> None:
    assert CANARY not in show(SecretUrl(REDIS))
    assert "redis://worker:***@127.0.0.1:1/0" in show(SecretUrl(REDIS))


def test_a_secret_url_connects_and_goes_to_other_processes_as_it_was_given() -> None:
    url = pickle.loads(pickle.dumps(SecretUrl(REDIS)))
    assert type(url) is SecretUrl
    assert url == REDIS
    assert (revealed(url), type(revealed(url))) == (REDIS, str)


def test_a_message_with_a_secret_url_cannot_be_encoded_by_mistake() -> None:
    with pytest.raises(TypeError):
        msgspec.json.encode({"url": SecretUrl(REDIS)})


@given(st.text([chr(c) for c in range(33, 127) if chr(c) not in "/?#@:[]%&\\"], min_size=4))
def test_any_password_in_a_longer_text_is_hidden(password: str) -> None:
    secret = f"{password}~{CANARY}"
    text = f"could not reach redis://:{secret}@db:6379/0 or redis://db/0?password={secret}"
    assert CANARY not in without_secrets({"error": [text]}, 10_000)["error"][0]


# -- objects, settings and their errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "hidden"),
    [
        ("host=db password=hunter2 dbname=x", "host=db password=*** dbname=x"),
        ("{'aws_secret_access_key': 'AbC/123+x'}", "{'aws_secret_access_key': '***'}"),
        ("Authorization: Bearer abc.def.ghi", "Authorization: Bearer ***"),
        ("GET /x?api_key=abcdef&n=1", "GET /x?api_key=***&n=1"),
        ("PUT /y?sig=a%2Fbc%3D&se=2030", "PUT /y?sig=***&se=2030"),
        ("unexpected token: ',' at 3; a secret is missing", "unexpected token: ',' at 3; a secret is missing"),
    ],
)
def test_a_secret_with_a_name_is_hidden_in_the_text_of_an_error(said: str, hidden: str) -> None:
    assert without_secrets(said, 500) == hidden
    assert without_secrets(hidden, 500) == hidden


def test_no_object_of_the_settings_shows_a_secret(tmp_path: Path) -> None:
    settings = load_settings(environ=ENVIRONMENT, folder=tmp_path)
    worker = WorkerConfig("kafka:9092", settings.redis_url or "", settings.event_log, "data")
    shown = [settings, worker, options(settings.http, tmp_path), ServerAddresses("kafka:9092", REDIS)]
    shown += [Addresses(pid=1, redis_url=settings.redis_url), settings.model_dump_json(), settings.model_dump()]
    assert not [each for each in shown if CANARY in repr(each) or CANARY in str(each)]
    assert settings.redis_url == REDIS, "and it is there for who connects"


@pytest.mark.parametrize(
    "wrong",
    [
        f'redis_url = ["{REDIS}"]',
        f'registry_uri = {{ url = "{CANARY}" }}',
        f'http = "{CANARY}"',
        f'[http]\napi_key = ["{CANARY}"]',
        f'[http.tls_key_password]\nis = "{CANARY}"',
        f'artifacts = "s3://key:{CANARY}@bucket/models"',
        f'event_log = "s3://key:{CANARY}@bucket/events"',
        f'feature_tables = "s3://key:{CANARY}@bucket/features"',
    ],
)
def test_the_error_for_a_wrong_setting_does_not_show_it(tmp_path: Path, wrong: str) -> None:
    (tmp_path / "headrace.toml").write_text(wrong)
    with pytest.raises(SettingsError) as raised:
        load_settings(environ={}, folder=tmp_path)
    assert CANARY not in str(raised.value)


def test_the_error_of_pydantic_does_not_show_what_came() -> None:
    with pytest.raises(ValueError, match="has a password") as raised:
        Settings(artifacts=f"s3://key:{CANARY}@bucket/models")
    assert CANARY not in str(raised.value)


# -- commands ----------------------------------------------------------------------------------------------------------

COMMANDS = ["config", "config --explain", "config --json", "config --explain --json", "ping", "ping --json"]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_prints_a_secret(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(build(), command.split(), env=ENVIRONMENT)
    assert result.output or result.exception
    assert CANARY not in result.output + str(result.exception)
    assert result.exception is None or isinstance(result.exception, HeadraceError | SystemExit)


# -- files -------------------------------------------------------------------------------------------------------------


def test_the_lock_file_is_private_and_has_no_password(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / ".headrace"
    lock = FolderLock(folder)
    file = folder / "services.lock"
    try:
        lock.publish(Addresses(pid=1, bootstrap_servers="127.0.0.1:9092", redis_url=SecretUrl(REDIS)))
        assert CANARY not in file.read_text()
        assert running(folder) == Addresses(pid=1, bootstrap_servers="127.0.0.1:9092")
        plain = "redis://127.0.0.1:6379/0"
        lock.publish(Addresses(pid=1, redis_url=SecretUrl(plain)))
        assert running(folder) == Addresses(pid=1, redis_url=plain)
    finally:
        lock.release()
    assert (stat.S_IMODE(file.stat().st_mode), stat.S_IMODE(folder.stat().st_mode)) == (0o600, 0o700)


def test_a_lock_file_that_everybody_could_read_becomes_private(tmp_path: Path) -> None:
    file = tmp_path / "services.lock"
    file.touch(0o644)
    FolderLock(tmp_path).release()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_folder_that_is_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)  # somebody shares it on purpose
    make_private(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750


def test_a_hidden_text_stays_the_same_when_it_is_hidden_again() -> None:
    assert redacted(SecretUrl(REDIS)) == redacted(redacted(REDIS)) == "redis://worker:***@127.0.0.1:1/0"


# -- a run -------------------------------------------------------------------------------------------------------------


def connecting(rows: Any, labels: Any, run: Any) -> Any:
    """Train as a careless user does: with a password in a variable and in an error."""
    url, key = REDIS, CANARY
    raise ConnectionError(f"{run.model} cannot reach {url} for {len(rows)} rows and {len(labels)} labels, {len(key)}")


@pytest.mark.slow
def test_runs_leave_no_secret_in_logs_reasons_manifests_and_the_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    shop = Shop(tmp_path)
    registry: Any = MlflowRegistry(ready_database(tmp_path), (tmp_path / "artifacts").as_uri())
    shop.registry = registry
    outcomes = []

    def run_twice() -> None:
        outcomes.append(shop.runner(replace(model, train=connecting)).run(request("careless", day(LIVE_FROM))))
        outcomes.append(shop.runner().run(request("first", day(LIVE_FROM))))

    text = logged(run_twice, as_json=True)
    assert [ended.outcome for ended in outcomes] == ["failed", "published"]
    assert "returns cannot reach redis://worker:***@" in outcomes[0].reason
    assert "run failed" in text
    assert max(map(len, text.splitlines())) < 16_000
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"mlflow.db", "manifest.json", "gate.json", "model.skops"} <= {path.name for path in written}
    assert CANARY not in text + repr(outcomes) + repr(shop.model_events.read())
    assert [path for path in written if CANARY.encode() in path.read_bytes()] == []
