"""The page about `headrace lineage`: its commands print what it says, about the reference system."""

from __future__ import annotations

import shlex
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.errors import TerminalError
from tests.support.console_page import difference, shown
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

PAGE = "docs/reference/lineage.md"
run = CliRunner()


def headrace(command: str, folder: Path) -> str:
    """What a command prints; files are made in the folder, and relative to it in what is printed."""
    arguments = [str(folder / word) if word.endswith(".svg") else word for word in shlex.split(command)[1:]]
    done = run.invoke(build(), arguments)
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in done.output.replace(f"{folder}/", "").splitlines())


def test_the_page_shows_what_the_commands_print(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = list(shown(PAGE))
    assert len(found) == 4
    assert "".join(difference(each, headrace(each.command, tmp_path)) for each in found) == ""
    drawn = ET.fromstring((tmp_path / "scheduled.svg").read_text("utf-8"))
    assert drawn.findtext("{http://www.w3.org/2000/svg}title") == "Lineage of flights.scheduled"


def test_a_name_that_is_not_there_is_an_error_that_lists_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    done = run.invoke(build(), ["lineage", "wether"])
    assert isinstance(done.exception, TerminalError)
    assert "views airport, carrier, destination, route, weather" in str(done.exception)
    done = run.invoke(build(), ["lineage", "delay@last"])
    assert done.exit_code == 2
    assert "write for example delay@3" in " ".join(done.output.replace("│", " ").split())
