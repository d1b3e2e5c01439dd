"""Training sets for people: the rows of a spine with their features as of each row's time, and a manifest."""

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
from headrace.models.training_manifest import IN_PARQUET, TrainingManifest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import pandas as pd
    import pyarrow as pa

    ProgressFactory = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


class TrainingRows(Protocol):
    """What a training set is made of."""

    @property
    def feature_columns(self) -> list[str]:
        """The columns that the views give, in order."""
        ...

    @property
    def label_column(self) -> str | None:
        """The column of the label, if it is joined."""
        ...

    def pieces(self) -> Iterator[pl.DataFrame]:
        """All rows in order, piece by piece, the same each time; at least one piece."""
        ...

    def count(self) -> int:
        """How many rows there will be."""
        ...

    def manifest(self, content: ContentHash) -> TrainingManifest:
        """The manifest, after the last piece was given."""
        ...


def _silent(_what: str, _total: int) -> AbstractContextManager[Callable[[int], None]]:
    return nullcontext(lambda _done: None)


class TrainingSet:
    """Every row of its spine in order, with the features as of its time. It is worked out when it is asked for.

    ``to_parquet`` streams: no more than a row group and the views' index is in memory. The other forms hold the whole
    and keep it. All of them raise OfflineStoreUnavailableError if the event log does not answer.
    """

    def __init__(self, rows: TrainingRows, progress: ProgressFactory | None = None) -> None:
        self._rows = rows
        self._progress = progress or _silent
        self._frame: pl.DataFrame | None = None
        self._manifest: TrainingManifest | None = None

    @property
    def feature_columns(self) -> list[str]:
        """The columns that the feature views give, in order."""
        return self._rows.feature_columns

    @property
    def label_column(self) -> str | None:
        """The column of the label; None where none is joined."""
        return self._rows.label_column

    def batches(self) -> Iterator[pl.DataFrame]:
        """The rows in order, some at a time; all of them with the same columns."""
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
        """What it was made of. Asked for first, it works the rows out, and keeps none."""
        if self._manifest is None:
            for _ in self.batches():
                pass
        if self._manifest is None:
            raise AssertionError("a whole pass makes the manifest")
        return self._manifest

    def to_polars(self) -> pl.DataFrame:
        """As a Polars table."""
        if self._frame is None:
            self._frame = pl.concat(list(self.batches()))
        return self._frame

    def to_arrow(self) -> pa.Table:
        """As an Arrow table."""
        return self.to_polars().to_arrow(compat_level=pl.CompatLevel.oldest())

    def to_pandas(self) -> pd.DataFrame:
        """As a pandas table: a missing number is NaN, the index counts the rows."""
        return self.to_polars().to_pandas()

    def to_parquet(self, path: str | Path) -> TrainingManifest:
        """Write a Parquet file, which is there whole or not at all; its manifest stands in its own metadata."""
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
    """The manifest in a Parquet file that :meth:`TrainingSet.to_parquet` wrote. Raises TerminalError and CodecError."""
    try:
        with pq.ParquetFile(path) as file:
            found: dict[bytes, Any] = file.metadata.metadata or {}
    except (OSError, ValueError) as error:
        raise TerminalError(f"{path} cannot be read as a Parquet file: {error}") from error
    if IN_PARQUET not in found:
        message = f"{path} has no manifest of a training set: it was not written by `TrainingSet.to_parquet`"
        raise TerminalError(message)
    return training_manifest.decode(found[IN_PARQUET])
