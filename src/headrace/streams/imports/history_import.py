"""An import of history: files are judged, sorted by when their rows were known, and enter the event log in one commit.

A second import of the same bytes changes nothing, and one that was killed goes on: docs/how-to/load-history.md.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from headrace.base.failpoints import failpoint
from headrace.bus.source_partition import import_partition
from headrace.bus.table import Table
from headrace.errors import FencedError, SettingsError
from headrace.event_log.imports import ImportedFile, ImportRecord, Imports, import_id
from headrace.event_log.staged_rows import StagedRows, remove_rows
from headrace.streams.imports.file_pieces import column_names, pieces
from headrace.streams.imports.import_judge import ImportJudge
from headrace.streams.imports.sorted_runs import SortedRuns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from headrace.bus.source_partition import SourcePartition
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.imports.availability import Availability
    from headrace.streams.imports.source_file import SourceFile

    Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]

FILE_ROWS = 500_000
"""The rows of a file of the event log, which are in memory while it is written."""


@dataclass(frozen=True)
class ImportOptions:
    """The options of an import besides its files: since when rows were known, and the boundary to the topic.

    ``until_us``: rows that were available from then on are left out, because the topic has them; None: none are.
    ``zone``: that of times without one. ``by``: who imports. ``deleted``: the column that
    is true for a deleted row of a table; None: all rows are there.
    """

    available: Availability
    until_us: int | None = None
    zone: str | None = None
    by: str = ""
    deleted: str | None = None


@dataclass(frozen=True)
class ImportOutcome:
    """The end of an import. ``record`` is None if there was nothing new.

    ``known`` has the import of each file whose content was imported before.
    """

    record: ImportRecord | None
    known: dict[str, str] = field(default_factory=dict)


class HistoryImport:
    """Imports files into the event log of one stream. ``folder`` is for the sorted rows, until they are in the log.

    ``progress`` is given what is done and its number of steps, and returns a context with a function that advances it.
    """

    def __init__(self, log: EventLog, stream: Stream, folder: Path, options: ImportOptions, progress: Progress) -> None:
        self._log, self._stream, self._folder = log, stream, folder
        self._options, self._progress = options, progress
        self._imports = Imports(log)
        if options.deleted is not None and not isinstance(stream, Table):
            raise SettingsError(f"--deleted {options.deleted}: {stream.topic!r} is no table, and its events stay")
        self._judge = ImportJudge(stream, options.available, options.zone, deleted=options.deleted)

    def run(self, files: Sequence[SourceFile], at_us: int) -> ImportOutcome:
        """Import the files whose content no import of the stream has yet. ``at_us`` is the time now.

        Nothing of them is in the log before everything is. Raises SettingsError for a file that cannot be read as what
        it is said to be, and OfflineStoreUnavailableError; after either, the next call goes on.
        """
        for each in files:
            names = column_names(each)
            if names is not None:
                self._judge.check(names, each.name)
        digests, imported = self._digests(files), self._imported()
        known = {each.name: imported[digest] for each, digest in zip(files, digests, strict=True) if digest in imported}
        named = {digest: each for each, digest in zip(reversed(files), reversed(digests), strict=True)}
        fresh = {digest: named[digest] for digest in dict.fromkeys(digests) if digest not in imported}
        if not fresh:
            return ImportOutcome(None, known)
        return ImportOutcome(self._import(fresh, at_us), known)

    def _digests(self, files: Sequence[SourceFile]) -> list[str]:
        with self._progress("checked", sum(each.size for each in files)) as advance:
            return [each.digest(advance) for each in files]

    def _imported(self) -> dict[str, str]:
        """Return the import of each content that the log has, by its digest. Remove what a kill has left of them."""
        complete = self._imports.of(self._stream.topic)
        for each in complete:
            SortedRuns(self._folder / each.partition.topic_id.hex()).remove()
        return {file.digest: each.id for each in complete for file in each.files}

    def _import(self, fresh: dict[str, SourceFile], at_us: int) -> ImportRecord:
        source = self._source([*fresh])
        runs = SortedRuns(self._folder / source.topic_id.hex())
        self._read(runs, fresh, source)
        staged, counted = StagedRows(self._log, self._stream, source), _Counted()
        files = self._stage(staged, runs, counted)
        record = ImportRecord(
            source=source.text,
            topic=self._stream.topic,
            files=[ImportedFile(file.name, digest) for digest, file in fresh.items()],
            available_at=self._options.available.text,
            rows=counted.rows,
            rejected=dict(counted.rejected),
            left_out=runs.left_out,
            first_us=counted.first_us,
            last_us=counted.last_us,
            until_us=self._options.until_us,
            by=self._options.by,
            at_us=at_us,
        )
        if staged.committed is None:
            self._imports.begin(record)
            try:
                staged.commit(files, counted.rows, f"import {import_id(source)}")
            except FencedError:
                if staged.committed != counted.rows:  # another process has just done the same
                    raise
        runs.remove()
        return msgspec.structs.replace(record, state="complete")

    def _source(self, digests: Sequence[str]) -> SourcePartition:
        """Return the source partition of an import: it depends on the content, and on what is said of it.

        After an undo the same import gets another one, because the D of the former one stays.
        """
        spec, options = self._stream.spec, self._options
        undone = [each for each in self._imports.undone(spec.topic) if [file.digest for file in each.files] == digests]
        said = [msgspec.json.encode(spec).decode(), options.available.text, options.until_us, options.zone, len(undone)]
        said += [] if options.deleted is None else [options.deleted]
        return import_partition(hashlib.sha256(msgspec.json.encode([said, digests])).digest())

    def _read(self, runs: SortedRuns, fresh: dict[str, SourceFile], source: SourcePartition) -> None:
        """Write a sorted run of each piece of the files."""
        with self._progress("read", sum(each.size for each in fresh.values())) as advance:
            for place, (digest, file) in enumerate(fresh.items()):
                there = column_names(file)
                for number, piece in enumerate(pieces(file, [] if there is None else self._judge.wanted(there))):
                    name = f"{place:06}-{digest[:16]}-{number:06}"
                    if not runs.has(name):
                        rows = self._judge.rows(piece, source)
                        kept = rows.filter(self._before)
                        runs.add(name, kept, rows.height - kept.height)
                    advance(piece.read)
                    failpoint("after-import-piece")

    @property
    def _before(self) -> pl.Expr:
        """Return the expression that is true for a row which the topic does not have."""
        until_us = self._options.until_us
        if until_us is None:
            return pl.lit(value=True)
        return pl.col("__available_at").to_physical() < until_us

    def _stage(self, staged: StagedRows, runs: SortedRuns, counted: _Counted) -> int:
        """Write the files of the log that are not there yet. Return how many files there are."""
        files, seen = 0, self._judge.new_ids()
        with self._progress("written", runs.height) as advance:
            for merged in runs.merged(FILE_ROWS):
                offsets = pl.int_range(counted.rows, counted.rows + merged.height, dtype=pl.Int64)
                rows = self._judge.without_duplicates(merged.with_columns(offsets.alias("__offset")), seen)
                counted.add(rows)
                if staged.rows(files) != rows.height:
                    staged.write(files, rows)
                files += 1
                advance(rows.height)
                failpoint("after-import-file")
        return files


class _Counted:
    """The counts of the rows that go into the log."""

    def __init__(self) -> None:
        self.rows = 0
        self.rejected: Counter[str] = Counter()
        self.first_us: int | None = None
        self.last_us: int | None = None

    def add(self, rows: pl.DataFrame) -> None:
        self.rows += rows.height
        self.rejected.update(rows.get_column("__reason").drop_nulls().to_list())
        times = rows.get_column("__available_at").to_physical()
        self.first_us = times[0] if self.first_us is None else self.first_us
        self.last_us = times[-1]


def undo(log: EventLog, topic: str, id_: str, at_us: int) -> ImportRecord:
    """Undo an import: its rows leave the event log, and workers remove what they have folded of it.

    Undoing it twice is harmless. Raises SettingsError for an import that the topic does not have, and
    OfflineStoreUnavailableError.
    """
    imports = Imports(log)
    known = [each for each in imports.all() if each.topic == topic]
    found = [each for each in known if each.id.startswith(id_) and each.state != "begun"]
    if len(found) != 1:
        ids = ", ".join(each.id for each in known if each.state == "complete") or "none"
        which = "several imports whose id begins with" if found else "no import"
        raise SettingsError(f"the event log of {topic!r} has {which} {id_!r}; write the id of one of these: {ids}")
    if found[0].state != "undone":
        imports.undo(found[0], at_us)
    failpoint("after-undo-note")
    remove_rows(log, topic, found[0].partition)
    return msgspec.structs.replace(found[0], state="undone")
