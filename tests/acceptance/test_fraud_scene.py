"""What a card team has, in the template of card payments, from raw events to predictions on real servers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from headrace.app.project.template import write_template
from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

OPTIONS = ("-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-p", "no:xdist")
SERVERS = """
import os
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def headrace_services():
    return SimpleNamespace(bootstrap_servers=os.environ["TEST_KAFKA"], redis_url=os.environ["TEST_REDIS"])
"""


@pytest.mark.acceptance
@pytest.mark.integration
@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_team_of_card_payments_goes_from_raw_events_to_predictions(services: LocalServices, tmp_path: Path) -> None:
    write_template(tmp_path, "payments")
    shutil.copyfile(ROOT / "tests/acceptance/fraud_scene.py", tmp_path / "tests" / "test_live.py")
    (tmp_path / "tests" / "conftest.py").write_text(SERVERS)
    servers = {"TEST_KAFKA": services.bootstrap_servers, "TEST_REDIS": services.redis_url}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, f"--rootdir={tmp_path}", "tests/test_live.py"],
        cwd=tmp_path, env=dict(os.environ) | servers, capture_output=True, text=True, check=False, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
