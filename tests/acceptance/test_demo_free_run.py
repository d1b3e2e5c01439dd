"""The demo in real time: enough days for version 1, with a worker that is killed on the way."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.demo_run import run_demo

DAYS = 44
"""Version 1 comes on day 26, a dozen seconds before the end; the worker is killed half-way."""
pytestmark = [pytest.mark.acceptance, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.long]


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The report of a free run: two workers, one of them killed on the way."""
    folder = run_demo(tmp_path_factory.mktemp("free"), "--free-run", "--days", str(DAYS), "--days-per-second", "1.5")
    content: dict[str, Any] = json.loads((folder / "demo-report.json").read_text())
    return content


def test_a_free_run_with_a_killed_worker_loses_nothing(free: dict[str, Any]) -> None:
    assert (free["lost"], free["duplicated"], free["dead_letters"]) == (0, 0, 0)
    assert free["predictions"] > 1_000
    assert free["audit"]["checked"] == free["predictions"]
    assert free["audit"]["mismatched"] == 0, free["audit"]["examples"]


def test_a_free_run_says_how_far_serving_lagged(free: dict[str, Any]) -> None:
    assert 0 < free["skew"]["equal"] <= free["skew"]["checked"] == free["predictions"]
    lag = free["skew"]["lag_records"]
    assert lag["p1"] <= lag["p50"] <= lag["p90"] <= lag["p99"]
