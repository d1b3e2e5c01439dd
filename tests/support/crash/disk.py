"""A folder whose space can be used up."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOUNTED = "64m"
_LARGEST_FILE = 256


class Disk:
    """A small tmpfs of its own where that may be mounted (by root), so a full one is a real ENOSPC.

    Elsewhere a full disk is a limit on the size of the files that the workers write (EFBIG).
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_MOUNTED}", "headrace-tests", str(folder)]
        done = subprocess.run(mount, check=False, capture_output=True) if sys.platform == "linux" else None
        self.is_mounted = done is not None and done.returncode == 0
        self.folder, self._ballast = folder, folder / "ballast"

    def fill(self, workers: Sequence[int]) -> None:
        """No space is left for these processes."""
        if not self.is_mounted:
            _limit(workers, _LARGEST_FILE)
            return
        with self._ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(1 << 16))
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0")

    def free(self, workers: Sequence[int]) -> None:
        """There is space again."""
        if self.is_mounted:
            self._ballast.unlink()
        else:
            _limit(workers, -1)

    def close(self) -> None:
        """Leave nothing mounted."""
        if self.is_mounted:
            subprocess.run(["umount", "--lazy", str(self.folder)], check=False, capture_output=True)


def _limit(workers: Sequence[int], largest: int) -> None:
    import resource

    for pid in workers:
        hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if largest < 0 else largest, hard))
