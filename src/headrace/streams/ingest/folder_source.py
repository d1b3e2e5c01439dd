"""Follows a folder: each new file is read, and its rows are produced to the topic of a stream, at least once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import structlog

from headrace.base.failpoints import failpoint
from headrace.errors import (
    BusUnavailableError,
    CodecError,
    OfflineStoreUnavailableError,
    RefusedError,
    SettingsError,
    StoppingError,
    TerminalError,
)
from headrace.streams.imports.source_file import SourceFile, form_of
from headrace.streams.ingest.file_rows import FileRow, FileRows
from headrace.streams.ingest.ingest_metrics import IngestMetrics
from headrace.streams.ingest.produced_files import ProducedFile, ProducedFiles

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream
    from headrace.streams.imports.source_file import FileForm
    from headrace.streams.ingest.produced_files import RejectedRows

logger = structlog.get_logger(__name__)
_NAMED_ROWS = 20
"""The rejected rows of a file that are named in the log, one by one. The file of rejected rows has all of them."""


@dataclass(frozen=True)
class FolderOptions:
    """A folder to follow, and how its files are read. ``settle_s``: the seconds that a file must not have changed."""

    name: str
    folder: Path
    form: FileForm | None = None
    zone: str | None = None
    settle_s: float = 2.0


class FolderSource:
    """Produces the rows of the files of one folder. Each :meth:`look` takes the files that are new and complete.

    A file is remembered by its content after Kafka has all of its rows. So a kill sends the rows of one file again. For
    one thread at a time.
    """

    def __init__(
        self,
        options: FolderOptions,
        stream: Stream,
        producer: EventProducer,
        produced: ProducedFiles,
        *,
        metrics: IngestMetrics | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options, self._stream, self._producer, self._produced = options, stream, producer, produced
        self._metrics, self._clock = metrics or IngestMetrics([options.name]), clock
        self._rows = FileRows(stream, options.zone)
        self._is_behind = False
        self._seen: dict[Path, _Seen] = {}
        self._finished: dict[Path, _Stamp] = {}

    def look(self, stopping: threading.Event) -> None:
        """Produce the rows of all files that are complete and new.

        A file that cannot be read holds up no other file. Raises BusUnavailableError,
        OfflineStoreUnavailableError if there is no folder, and this or RefusedError for the last file that has it.
        """
        if self._is_behind:  # what an attempt has left goes first, so that a Kafka that is away does not get it twice
            self._producer.flush()
            self._is_behind = False
        error: OfflineStoreUnavailableError | RefusedError | None = None
        for path, stamp in self._complete():
            if stopping.is_set():
                return
            try:
                self._take(path, stamp, stopping)
            except StoppingError:
                return
            except (OfflineStoreUnavailableError, RefusedError) as found:
                error = found
        if error is not None:
            raise error

    def _complete(self) -> Iterator[tuple[Path, _Stamp]]:
        """Yield the files that have not changed for long enough and are not finished, in the order of their names."""
        now, there = self._clock(), dict(self._listed())
        self._seen = {path: seen for path, seen in self._seen.items() if path in there}
        self._finished = {path: stamp for path, stamp in self._finished.items() if path in there}
        for path, stamp in there.items():
            seen = self._seen.get(path)
            if seen is None or seen.stamp != stamp:
                seen = self._seen[path] = _Seen(stamp, now)
            if now - seen.since_s >= self._options.settle_s and self._finished.get(path) != stamp:
                yield path, stamp

    def _listed(self) -> Iterator[tuple[Path, _Stamp]]:
        folder = self._options.folder
        if not folder.is_dir():
            raise OfflineStoreUnavailableError(
                f"[[ingest]] {self._options.name!r}: folder = {str(folder)!r} is no folder: make it"
            )
        for path in sorted(folder.rglob("*")):
            is_hidden = any(part[:1] in "._" for part in path.relative_to(folder).parts)
            stamp = None if is_hidden else _stamp(path)
            if stamp is not None and (self._options.form or form_of(path.name)):
                yield path, stamp

    def _take(self, path: Path, stamp: _Stamp, stopping: threading.Event) -> None:
        form = self._options.form or form_of(path.name)
        assert form is not None  # noqa: S101 - no other file is listed
        file = SourceFile(str(path), form, stamp.size)
        sha256 = file.digest()
        before = self._produced.known(sha256)
        if before is not None:
            if before.file != path.name:
                logger.info("a file has the content of one that was produced", source=self._options.name,
                            file=str(path), earlier=before.file)  # fmt: skip
            self._finished[path] = stamp
            return
        try:
            self._produce(file, path, sha256, stamp, stopping)
        except SettingsError as error:
            self._failed(path, stamp, error)
        except RefusedError as error:
            self._failed(path, stamp, error)
            raise
        except BusUnavailableError:
            self._is_behind = True
            raise

    def _failed(self, path: Path, stamp: _Stamp, error: Exception) -> None:
        """Note that a file is not produced. It is tried again when it has changed, and after a restart."""
        self._finished[path] = stamp
        self._metrics.failed_file(self._options.name)
        logger.error("a file is not produced: correct it, or start again", source=self._options.name, file=str(path),
                     reason=str(error))  # fmt: skip

    def _produce(self, file: SourceFile, path: Path, sha256: str, stamp: _Stamp, stopping: threading.Event) -> None:
        count = 0
        with self._produced.rejected(sha256, path) as rejected:
            for row in self._rows.of(file):
                if stopping.is_set():
                    raise StoppingError(f"{path} is not produced to its end")
                reason = self._sent(row)
                if reason:
                    self._reject(path, FileRow(row.line, row.content, reason=reason), rejected)
                count += not reason
            self._producer.flush()
            if _stamp(path) != stamp:  # it may have been read half old and half new: it is read again
                logger.warning("a file has changed while it was read", source=self._options.name, file=str(path))
                return
        failpoint("after-ingest-flush")
        self._produced.add(ProducedFile(sha256=sha256, file=path.name, rows=count, rejected=rejected.count))
        self._finished[path] = stamp
        self._metrics.produced_file(self._options.name, count, rejected.count)
        logger.info("a file is produced", source=self._options.name, file=str(path), rows=count,
                    rejected=rejected.count, topic=self._stream.topic)  # fmt: skip

    def _sent(self, row: FileRow) -> str:
        """Hand a row to the producer, and return why it is rejected: an empty text if it is not."""
        if row.event is None:
            return row.reason
        try:
            self._producer.send(self._stream, row.event)
        except RefusedError:
            raise
        except (CodecError, TerminalError) as error:
            return str(error)
        return ""

    def _reject(self, path: Path, row: FileRow, rejected: RejectedRows) -> None:
        rejected.add(row)
        if rejected.count <= _NAMED_ROWS:
            logger.warning("a row is no event and is rejected", source=self._options.name, file=str(path),
                           line=row.line, reason=row.reason, kept=str(rejected.place))  # fmt: skip


class _Stamp(NamedTuple):
    """What changes when a file changes."""

    size: int
    changed_ns: int
    inode: int


class _Seen(NamedTuple):
    stamp: _Stamp
    since_s: float


def _stamp(path: Path) -> _Stamp | None:
    """Return the stamp of a file; None for a folder, and for a file that is gone."""
    try:
        found = path.stat()
    except OSError:
        return None
    return _Stamp(found.st_size, found.st_mtime_ns, found.st_ino) if path.is_file() else None
