"""The fork server of a trainer's fits ends with the trainer, however the trainer ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.waiting import until

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="it reads /proc")
POOL = """
import time
from headrace.trainers.runs.fitting import FitPool
FitPool()
print("made", flush=True)
time.sleep(60)
"""


def test_a_fork_server_that_still_imports_its_libraries_ends_with_the_trainer() -> None:
    with subprocess.Popen([sys.executable, "-c", POOL], stdout=subprocess.PIPE) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == b"made\n"
        until(lambda: fork_servers(trainer.pid) != [], 30)  # a process that was just made is not what it will be
        (server,) = fork_servers(trainer.pid)
        until(lambda: "numpy" in (server / "maps").read_text(), 60)  # the libraries come after the first module
        trainer.kill()
        seen: list[str] = []
        until(lambda: not is_alive(server, seen), 60)
        assert not any("sklearn" in each for each in seen), "it went on with its imports"


def fork_servers(pid: int) -> list[Path]:
    """The children of a process that are fork servers, as folders of /proc."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    folders = [Path(f"/proc/{child}") for child in children]
    return [folder for folder in folders if b"multiprocessing.forkserver" in (folder / "cmdline").read_bytes()]


def is_alive(process: Path, seen: list[str]) -> bool:
    """Whether it has not ended; the libraries that it has by now go to ``seen``."""
    try:
        seen.append((process / "maps").read_text())
        return ") Z " not in (process / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
