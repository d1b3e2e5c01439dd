"""A run of `headrace demo` in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def run_demo(folder: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "headrace", "demo", *options]
    places = ["--data-dir", str(folder / "data"), "--output", str(folder)]
    done = subprocess.run([*command, *places], cwd=ROOT, capture_output=True, text=True, check=False)
    logs = "".join(f"\n== {log.name}\n{log.read_text()[-2000:]}" for log in sorted(folder.glob("data/logs/*.log")))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + logs
    return folder
