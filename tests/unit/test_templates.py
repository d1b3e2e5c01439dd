"""Every template of `headrace init` is a project that works: its definitions load, its own tests pass, and quickly."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.commands.plan import EXIT_CHANGES
from headrace.app.project.template import templates, write_template
from headrace.errors import ProjectError
from tests.support.documents import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:xdist", "-W", "error")


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=folder, env=dict(os.environ) | environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.mark.parametrize("name", templates())
def test_the_tests_of_a_template_pass(name: str, tmp_path: Path) -> None:
    write_template(tmp_path, name)
    done = command(tmp_path, "pytest", *OPTIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"[2-9] passed", done.stdout)


@pytest.mark.parametrize("name", templates())
def test_a_template_names_its_next_commands(name: str, tmp_path: Path) -> None:
    write_template(tmp_path, name)
    readme = (tmp_path / "README.md").read_text()
    for wanted in ("$ pytest ", "$ headrace up ", "$ headrace worker ", "$ headrace plan "):
        assert wanted in readme


@pytest.mark.parametrize("name", ["minimal", "payments"])
def test_the_python_of_a_template_sends_an_event_of_its_streams(name: str, tmp_path: Path) -> None:
    """Only the connection is a stand-in: imports, the event and its fields are those of the template."""
    write_template(tmp_path, name)
    (block,) = blocks(f"templates/{name}/README.md", "python")
    stand_in = "import contextlib, unittest.mock, headrace\nmade = unittest.mock.MagicMock()\n"
    connect = "headrace.connect = lambda: contextlib.nullcontext(made)\n"
    printed = "print(made.producer().send.call_args.args[1].__class__.__name__)\n"
    (tmp_path / "example.py").write_text(stand_in + connect + block.text + printed)
    done = command(tmp_path, "example")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in {"Click", "Payment"}


def test_a_list_has_the_features_of_a_template(tmp_path: Path) -> None:
    write_template(tmp_path, "minimal")
    listed = command(tmp_path, "headrace", "features", "list")
    assert listed.returncode == 0, listed.stderr
    assert "__" in listed.stdout


@pytest.mark.integration
@pytest.mark.parametrize("name", templates())
def test_a_plan_accepts_a_template(name: str, services: LocalServices, namespace: str, tmp_path: Path) -> None:
    write_template(tmp_path, name)
    servers = {"HEADRACE_BOOTSTRAP_SERVERS": services.bootstrap_servers, "HEADRACE_REDIS_URL": services.redis_url}
    planned = command(tmp_path, "headrace", "plan", "--json", **servers, HEADRACE_NAMESPACE=namespace)
    assert planned.returncode == EXIT_CHANGES, planned.stderr
    lines = json.loads(planned.stdout)["lines"]
    assert {line["action"] for line in lines if line["kind"] != "processor"} == {"added"}


def test_the_command_writes_a_template_and_says_which_there_are(tmp_path: Path) -> None:
    run: Any = CliRunner().invoke(build(), ["init", str(tmp_path / "new"), "--template", "minimal"])
    assert run.exit_code == 0
    assert "next: cd" in run.output
    assert "pytest && headrace up" in run.output
    with pytest.raises(ProjectError, match="there is no template 'maximal': there are flights, minimal, payments"):
        write_template(tmp_path / "other", "maximal")
    assert [*templates()] == ["flights", "minimal", "payments"]


def test_a_dot_is_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run: Any = CliRunner().invoke(build(), ["init", ".", "--template", "minimal"])
    assert (tmp_path / "headrace.toml").exists()
    assert "next: pytest && headrace up" in run.output


def test_a_project_without_a_folder_is_made_in_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "notes.txt").write_text("stays")
    monkeypatch.chdir(tmp_path)
    run: Any = CliRunner().invoke(build(), ["init", "--template", "minimal"])
    assert (tmp_path / "headrace.toml").exists()
    assert "next: pytest && headrace up" in run.output
    again: Any = CliRunner().invoke(build(), ["init", "--template", "minimal"])
    assert "would overwrite README.md, features.py, headrace.toml" in str(again.exception)
    assert (tmp_path / "notes.txt").read_text() == "stays"


def test_a_preview_of_a_service_names_the_values_of_its_request(tmp_path: Path) -> None:
    write_template(tmp_path, "payments")
    paid = {
        "payment_id": 1, "card": "c7", "device": "d1", "merchant": "m1", "category": "grocery", "country": "FR",
        "home": "FR", "amount": 20.0, "paid_at": "2026-01-01T10:00:00Z",
    }  # fmt: skip
    (tmp_path / "payments.jsonl").write_text(json.dumps(paid))
    preview = ("headrace", "features", "preview", "card_risk", "--from", "shop.payments=payments.jsonl", "--json")
    said = command(tmp_path, *preview)
    assert said.returncode != 0
    assert "write --entity card=…,device=…,merchant=…,amount=…,country=…" in " ".join(
        said.stderr.replace("│", " ").split()
    )
    shown = command(tmp_path, *preview, "--entity", "card=c7,device=d1,merchant=m1,amount=30,country=FR")
    assert [(row["known_device"], row["z"]) for row in json.loads(shown.stdout)] == [(True, None)]
