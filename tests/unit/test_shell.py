"""The shell of worker and trainer: whatever happens to it, its loop does not outlive it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import faust
import pytest

from headrace.bus.faust_shell import ThreadService, run_shell, shell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
def test_a_start_that_is_broken_off_ends_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal between the loop's start and the shell's: nothing is stopped in order then."""
    stopped = threading.Event()

    def loop() -> None:
        stopped.wait(30)

    service = ThreadService(loop, stopped.set)

    def broken_off(_: faust.Worker) -> None:
        raise SystemExit(1)

    monkeypatch.setattr(faust.Worker, "execute_from_commandline", broken_off)
    with pytest.raises(SystemExit):
        run_shell(shell("test-shell", str(tmp_path)), service)
    assert stopped.is_set()
