"""The logs of training runs: what a train function prints, warns and logs, and the traceback of its error."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from headrace.errors import TerminalError

if TYPE_CHECKING:
    from typing import BinaryIO

LARGEST_OF_A_FIT = 1 << 20
"""The bytes of a fit's output that are kept: the first half of them and the last half."""
_LARGEST = 4 * LARGEST_OF_A_FIT
_LONGEST_NAME = 150


class RunLogs:
    """The folder with one file for each run. The file of a run has a bound: 1 MiB for each fit, 4 MiB for all."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def path(self, request_id: str) -> Path:
        """Return the file of a run. Its name is the request id, or the hash of one that is no name of a file."""
        name = quote(request_id, safe="")
        if name.strip(".") != name or not 0 < len(name) <= _LONGEST_NAME:
            name = hashlib.sha256(request_id.encode()).hexdigest()
        return self._folder / f"{name}.log"

    def find(self, request_id: str) -> bytes | None:
        """Return the log of a run, or None if it wrote nothing, or wrote it on another machine."""
        try:
            return self.path(request_id).read_bytes()
        except FileNotFoundError:
            return None


def run_log(folder: str | Path, request_id: str) -> str:
    """Return the log of a run as text. Raises TerminalError if there is none in this folder."""
    found = RunLogs(folder).find(request_id)
    if found is None:
        message = (
            f"there is no log of the run {request_id!r} in {str(folder)!r}: its train function has printed nothing, or "
            "its trainer is on another machine; then the log is there, and as run.log with the run in MLflow. "
            "`headrace runs list` shows the runs"
        )
        raise TerminalError(message)
    return found.decode(errors="replace")


class FitOutput:
    """Appends the output of one fit to a run's log: the beginning as it comes, the end when it is closed."""

    def __init__(self, path: Path, *, largest: int = LARGEST_OF_A_FIT) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_full = path.exists() and path.stat().st_size > _LARGEST - largest
        self._file: BinaryIO = path.open("wb" if is_full else "ab")
        self._half = largest // 2
        self._room = self._half
        self._end = bytearray()
        self._left_out = 0

    def write(self, data: bytes) -> None:
        """Keep some output."""
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        if now:
            self._file.write(now)
            self._file.flush()
        self._end += later
        surplus = len(self._end) - self._half
        if surplus > 0:
            del self._end[:surplus]
            self._left_out += surplus

    def close(self) -> None:
        """Write the end, and how much was left out before it."""
        with self._file as file:
            if self._left_out:
                file.write(f"\n… {self._left_out:,} bytes are left out …\n".encode())
            file.write(self._end)
