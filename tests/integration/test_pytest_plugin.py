"""The fixtures of the plug-in for pytest, as the page about tests of features shows them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

from headrace.app.project.template import write_template
from headrace.bus.kafka_clients import admin
from headrace.bus.topics import existing_incarnations
from tests.support.documents import blocks

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

PAGE = "docs/how-to/test-features.md"
OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:xdist")


def test_pytest_finds_the_plug_in_by_itself() -> None:
    (found,) = entry_points(group="pytest11", name="headrace")
    assert found.value == "headrace.pytest_plugin"


@pytest.mark.integration
@pytest.mark.long
def test_the_live_test_of_the_page_passes_twice_on_topics_of_its_own(services: LocalServices, tmp_path: Path) -> None:
    write_template(tmp_path)
    files = [block.text for block in blocks(PAGE, "python") if block.text.startswith("# ")]
    for text in files:
        name, _, code = text.removeprefix("# ").partition("\n")
        (tmp_path / name).write_text(code)
    again = (tmp_path / "test_live.py").read_text().replace("test_a_departure", "test_another_departure")
    (tmp_path / "test_live_again.py").write_text(again)
    servers = {"TEST_KAFKA": services.bootstrap_servers, "TEST_REDIS": services.redis_url}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={tmp_path}", "test_live.py", "test_live_again.py"],
        cwd=tmp_path, env=dict(os.environ) | servers, capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    assert existing_incarnations(admin(services.bootstrap_servers), ["flights.departed"]) == {}
