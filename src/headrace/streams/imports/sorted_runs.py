"""Sorts more rows than memory holds: sorted pieces on the disk are merged, some rows at a time.

Rows of one time stay in the order of the files. So the same files always give the same order, and the same offsets.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.ipc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_TIME = "__available_at"


class _Noted(msgspec.Struct, frozen=True):
    """The facts about a run besides its rows."""

    left_out: int


class SortedRuns:
    """The runs of one import in a folder: each has the rows of one piece of a file, by :data:`_TIME`.

    A run that an earlier attempt has written is there already. Raises OSError if the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)

    def has(self, name: str) -> bool:
        """Return whether a run is there, and use it if it is."""
        found = self._rows(name).exists()
        if found:
            self._names.append(name)
        return found

    def add(self, name: str, rows: pl.DataFrame, left_out: int) -> None:
        """Write a run whole, or not at all. ``left_out`` rows of its piece are not in it."""
        draft = self._folder / f"{name}.{os.getpid()}"
        draft.write_bytes(msgspec.json.encode(_Noted(left_out)))
        draft.replace(self._note(name))
        rows.write_ipc(draft, compat_level=pl.CompatLevel.newest())
        draft.replace(self._rows(name))
        self._names.append(name)

    @property
    def left_out(self) -> int:
        """The number of rows that were left out of all runs."""
        notes = (msgspec.json.decode(self._note(name).read_bytes(), type=_Noted) for name in self._names)
        return sum(note.left_out for note in notes)

    def merged(self, rows: int) -> Iterator[pl.DataFrame]:
        """Yield all rows by their time, ``rows`` at a time; the last frame may have fewer."""
        runs = [self._run(name) for name in self._names]
        runs = [run for run in runs if run.height]
        times = [run.get_column(_TIME).to_physical().to_numpy() for run in runs]
        begins = np.zeros(len(runs), np.int64)
        while begins.sum() < sum(map(len, times)):
            ends = _ends(times, begins, rows)
            parts = [run[b:e] for run, b, e in zip(runs, begins.tolist(), ends.tolist(), strict=True) if e > b]
            found, begins = pl.concat(parts), ends
            yield found if len(parts) == 1 else found.sort(_TIME, maintain_order=True)

    @property
    def height(self) -> int:
        """The number of all rows."""
        return sum(self._run(name).height for name in self._names)

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, name: str) -> pl.DataFrame:
        """Return a run, whose rows stay on the disk until they are looked at."""
        with pa.memory_map(str(self._rows(name))) as mapped:
            return pl.DataFrame(pa.ipc.open_file(mapped).read_all())

    def _rows(self, name: str) -> Path:
        return self._folder / f"{name}.arrow"

    def _note(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _ends(times: Sequence[np.ndarray], begins: np.ndarray, rows: int) -> np.ndarray:
    """Return where each run ends in the next ``rows`` rows of all runs, which begin at ``begins``."""
    lengths = np.array([len(each) for each in times])
    if (lengths - begins).sum() <= rows:
        return lengths
    left = [each[begin:] for each, begin in zip(times, begins, strict=True)]
    low, high = min(int(each[0]) for each in left if len(each)), max(int(each[-1]) for each in left if len(each))
    while low < high:  # the least time up to which there are enough rows
        middle = (low + high) // 2
        if sum(int(np.searchsorted(each, middle, "right")) for each in left) >= rows:
            high = middle
        else:
            low = middle + 1
    before = np.array([np.searchsorted(each, low, "left") for each in left])
    same = np.array([np.searchsorted(each, low, "right") for each in left]) - before
    room = rows - before.sum() - np.concatenate([[0], np.cumsum(same)[:-1]])
    ends: np.ndarray = begins + before + np.clip(room, 0, same)
    return ends
