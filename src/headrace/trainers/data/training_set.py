"""Training sets for people: rows with their features as of each row's time, and a manifest."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import polars as pl
import pyarrow.parquet as pq

from headrace.errors import TerminalError
from headrace.features.offline.content_hash import ContentHash
from headrace.features.offline.spine import BATCH_ROWS
from headrace.models import training_manifest
from headrace.models.category_columns import with_categories
from headrace.models.training_manifest import IN_PARQUET, TrainingManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    import pandas as pd
    import pyarrow as pa

    ProgressFactory = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class TrainingRows(Protocol):
    """The rows that a training set consists of."""

    @property
    def feature_columns(self) -> list[str]:
        """The columns of the features, in order."""
        ...

    @property
    def label_column(self) -> str | None:
        """The column of the label; None if no label is joined."""
        ...

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield all rows in order, piece by piece, the same rows each time; at least one piece."""
        ...

    def count(self) -> int:
        """Return the number of rows."""
        ...

    def manifest(self, content: ContentHash) -> TrainingManifest:
        """Return the manifest. Called after the last piece was taken; ``content`` is the hash of all pieces."""
        ...


def _silent(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _done: None)


class TrainingSet:
    """Rows in order with their features as of each row's time. Made by :func:`headrace.training_set`.

    Nothing is computed before one of the methods is called. ``to_parquet`` streams: only one row group and the index of
    the views are in memory. The other forms hold all rows and keep them. All methods raise OfflineStoreUnavailableError
    if the event log does not answer.

    >>> from datetime import UTC, datetime
    >>> import headrace
    >>> import polars as pl
    >>> noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> flight = {"origin": "JFK", "dest": "LAX", "carrier": "B6", "scheduled_at": noon}
    >>> spine = pl.DataFrame({**flight, "at": [noon]})
    >>> made = headrace.training_set("delay", spine, time="at")
    >>> made.to_pandas()["airport__departures_1h"].tolist(), made.manifest.rows  # no flight has left yet
    ([0], 1)
    """

    def __init__(self, rows: TrainingRows, progress: ProgressFactory | None = None) -> None:
        self._rows = rows
        self._progress = progress or _silent
        self._frame: pl.DataFrame | None = None
        self._manifest: TrainingManifest | None = None

    @property
    def feature_columns(self) -> list[str]:
        """The columns of the features, in order."""
        return self._rows.feature_columns

    @property
    def label_column(self) -> str | None:
        """The column of the label; None if no label is joined."""
        return self._rows.label_column

    def batches(self) -> Iterator[pl.DataFrame]:
        """Yield the rows in order, some at a time. All batches have the same columns."""
        if self._frame is not None:
            yield from self._frame.iter_slices(BATCH_ROWS) if self._frame.height else [self._frame]
            return
        content = ContentHash()
        with self._progress("training set", self._rows.count()) as advance:
            for piece in self._rows.pieces():
                content.update(piece)
                yield piece
                advance(piece.height)
        self._manifest = self._rows.manifest(content)

    @property
    def manifest(self) -> TrainingManifest:
        """The manifest: what the rows were made from.

        If it is read before the rows, all of them are computed for it and none is kept.
        """
        if self._manifest is None:
            for _ in self.batches():
                pass
        if self._manifest is None:
            raise AssertionError("a whole pass makes the manifest")
        return self._manifest

    def to_polars(self) -> pl.DataFrame:
        """Return the rows as a Polars table."""
        if self._frame is None:
            self._frame = pl.concat(list(self.batches()))
        return self._frame

    def to_arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        return self.to_polars().to_arrow(compat_level=pl.CompatLevel.oldest())

    def to_pandas(self, *, categories: Sequence[str] = ()) -> pd.DataFrame:
        """Return the rows as a pandas table. A missing number is NaN; the index counts the rows.

        ``categories`` are columns in the dtype ``category``, as a model with the same ``categories`` gets them. Raises
        TerminalError for a column that is not there.
        """
        frame = self.to_polars().to_pandas()
        unknown = [name for name in categories if name not in frame]
        if unknown:
            raise TerminalError(f"categories name {unknown}; the columns of this training set are {list(frame)}")
        return with_categories(frame, categories)

    def to_parquet(self, path: str | Path) -> TrainingManifest:
        """Write a Parquet file with the manifest in its metadata, and return the manifest.

        The file appears complete or not at all.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.partial")
        try:
            self._write(partial)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        partial.replace(target)
        return self.manifest

    def _write(self, path: Path) -> None:
        writer: pq.ParquetWriter | None = None
        try:
            for piece in self.batches():
                table = piece.to_arrow(compat_level=pl.CompatLevel.oldest())
                writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
                writer.write_table(table)
            if writer is not None:
                writer.add_key_value_metadata({IN_PARQUET: training_manifest.encode(self.manifest)})
        finally:
            if writer is not None:
                writer.close()


def manifest_of(path: str | Path) -> TrainingManifest:
    """Return the manifest in a Parquet file that :meth:`TrainingSet.to_parquet` wrote.

    Raises TerminalError and CodecError.
    """
    try:
        with pq.ParquetFile(path) as file:
            found: dict[bytes, Any] = file.metadata.metadata or {}
    except (OSError, ValueError) as error:
        raise TerminalError(f"{path} cannot be read as a Parquet file: {error}") from error
    if IN_PARQUET not in found:
        message = f"{path} has no manifest of a training set: it was not written by `TrainingSet.to_parquet`"
        raise TerminalError(message)
    return training_manifest.decode(found[IN_PARQUET])
