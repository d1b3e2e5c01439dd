from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from headrace import __version__
from headrace.app.cli import build, main
from headrace.errors import BusUnavailableError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

run = CliRunner()


def test_help_names_the_commands() -> None:
    shown = run.invoke(build(), ["--help"])
    assert shown.exit_code == 0
    for command in ("up", "init", "config", "version"):
        assert command in shown.output


def test_version_is_printed() -> None:
    assert run.invoke(build(), ["--version"]).output.strip() == __version__
    told = json.loads(run.invoke(build(), ["version", "--json"]).output)
    assert told["headrace"] == __version__


def test_config_says_where_a_value_came_from(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "headrace.toml").write_text('namespace = "mine"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_TICK", "5m")
    shown = run.invoke(build(), ["config", "--explain", "--json", "--redis-url", "redis://r:1/0"])
    rows = {row["name"]: (row["value"], row["origin"]) for row in json.loads(shown.output)}
    assert rows["namespace"] == ("mine", "headrace.toml")
    assert rows["tick"] == ("5m", "environment HEADRACE_TICK")
    assert rows["redis_url"] == ("redis://r:1/0", "flag --redis-url")
    assert rows["batch_size"] == (20_000, "default")
    plain = run.invoke(build(), ["config"]).output
    assert 'namespace = "mine"' in plain
    assert "headrace.toml" in run.invoke(build(), ["config", "--explain"]).output


def test_init_writes_the_template_and_overwrites_nothing(tmp_path: Path) -> None:
    target = tmp_path / "new"
    assert run.invoke(build(), ["init", str(target)]).exit_code == 0
    for part in ("headrace.toml", "streams/__init__.py", "features/__init__.py", "trainers/__init__.py"):
        assert (target / part).is_file()
    again = run.invoke(build(), ["init", str(target)])
    assert again.exit_code != 0
    assert "would overwrite" in str(again.exception)


@pytest.mark.parametrize(("error", "code"), [(SettingsError("no"), 1), (BusUnavailableError("later"), 75)])
def test_our_errors_are_one_line_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("headrace.app.cli.build", lambda: fails)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == code
    assert str(error) in capsys.readouterr().err


def test_the_cli_imports_nothing_heavy() -> None:
    code = (
        "import sys; from headrace.app.cli import build; build();"
        "print(sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:])))"
    )
    heavy = [
        "numpy",
        "pandas",
        "polars",
        "pyarrow",
        "deltalake",
        "sklearn",
        "mlflow",
        "feast",
        "faust",
        "confluent_kafka",
    ]
    done = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_argument_that_is_no_text_is_refused_in_one_line() -> None:
    command: list[str | bytes] = [sys.executable, "-m", "headrace", "models", "pin", "delay", "--reason", b"caf\xe9"]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "headrace: argument b'caf\\xe9' is not UTF-8 text: messages have text alone; use a terminal with UTF-8"
    )
