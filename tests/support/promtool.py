"""Prometheus' own tool, which evaluates rules on series that a test writes. It is Debian's package `prometheus`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")
MISSING = "promtool is not installed: apt-get install prometheus, or name it with PROMTOOL"
INTERVAL_S = 15


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    assert PROMTOOL is not None, MISSING
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False, timeout=60)


def scenario(series: Mapping[str, str], at: str, firing: Mapping[str, int]) -> dict[str, Any]:
    """A test of promtool: these series, scraped every 15 seconds, make so many of each alert fire at a time."""
    return {
        "interval": f"{INTERVAL_S}s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f'count(ALERTS{{alertname="{alert}", alertstate="firing"}}) or vector(0)',
                "eval_time": at,
                "exp_samples": [{"labels": "{}", "value": count}],
            }
            for alert, count in firing.items()
        ],
    }


def tested(rules: Path, scenarios: Sequence[Mapping[str, Any]], folder: Path) -> tuple[int, str]:
    """The exit code of ``promtool test rules``, and what it says. JSON is YAML too."""
    file = folder / "tests.json"
    content = {"rule_files": [str(rules)], "evaluation_interval": f"{INTERVAL_S}s", "tests": scenarios}
    file.write_text(json.dumps(content))
    done = run("test", "rules", str(file))
    return done.returncode, done.stdout + done.stderr
