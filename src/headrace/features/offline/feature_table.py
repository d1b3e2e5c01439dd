"""`features/<view>`: the values of a view on a grid of times, in a Delta table that any Parquet tool can read."""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.dataset as ds
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from headrace.errors import FencedError, OfflineStoreUnavailableError
from headrace.event_log.columns import ACCEPTED, IMPORTED
from headrace.event_log.imports import Imports
from headrace.features.kernel.role_rows import view_rows
from headrace.features.offline.feature_history import available_features
from headrace.features.offline.view_history import ViewHistory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.event_log.event_log import EventLog
    from headrace.event_log.imports import ImportRecord
    from headrace.features.definitions.view_spec import ViewSpec

TIME = "time"
GRID, SPEC, IMPORTS = "headrace.grid", "headrace.spec", "headrace.imports"
"""Delta transactions: the place on the grid of the table's last time, a number for the view's version, and one for the
imports of its streams: they bring rows of times that the table has already, or take them away."""
MARGIN_US = 300_000_000
"""The distance of the grid from the newest row of the partition that is furthest behind."""
SILENT_US = 86_400_000_000
"""A partition is silent if its newest row is this much older than the stream's. It does not hold the grid up any more.
"""
PIECE_ROWS = 500_000
_SHORTEST_US, _LONGEST_US = 60_000_000, 86_400_000_000


def step_us(spec: ViewSpec) -> int:
    """The step of the grid: the shortest window, at least a minute and at most a day."""
    return int(np.clip(min(window.length_us for window in spec.windows), _SHORTEST_US, _LONGEST_US))


class FeatureTable:
    """The table of one view. A row has the join keys, ``time`` t on the grid, and the view's columns at t.

    The values are those of a training set: from the rows that were available at t minus the view's delay. An entity has
    a row at t if it had an event within the step before t, and the event was known at t.
    """

    def __init__(self, spec: ViewSpec, log: EventLog, folder: str) -> None:
        self._spec, self._log = spec, log
        self.path = f"{folder.rstrip('/')}/{spec.name}"
        self._version = int(spec.version, 16) >> 1  # 63 bits
        self._step = step_us(spec)

    def update(self) -> int:
        """Add the times that the log has reached since the last call, and return the number of rows.

        If the view has changed, or its streams' imports have, its table is made again. Raises
        OfflineStoreUnavailableError, and FencedError if another process has updated the table meanwhile; then this call
        changes nothing.
        """
        try:
            return sum(self._pieces())
        except CommitFailedError as error:
            raise FencedError(f"the feature table {self.path}: another process writes it: {error}") from error
        except (DeltaError, OSError) as error:
            raise OfflineStoreUnavailableError(f"the feature table {self.path} cannot be written: {error}") from error

    def _pieces(self) -> Iterator[int]:
        """Yield the number of rows that each commit added.

        All commits use one handle, so a commit of another process makes the next one fail.
        """
        table = self._opened()
        imports = self._imports()
        is_ours = (
            table is not None
            and table.transaction_version(SPEC) == self._version
            and (table.transaction_version(IMPORTS) or 0) == imports
        )
        done = table.transaction_version(GRID) if table is not None and is_ours else None
        rows = self._rows(done)
        if all(each.is_empty() for each in rows.values()):
            if table is not None and not is_ours and table.file_uris():  # all there was has been undone
                table.delete(commit_properties=CommitProperties(app_transactions=[Transaction(SPEC, 0)]))
            return
        counted = self._counted(rows)
        history = ViewHistory(self._spec, rows)
        table = self._made(counted, history) if table is None else table
        newest = (_reached(rows) - MARGIN_US) // self._step
        for piece, end in _pieces(self._asked(counted, -(2**62) if done is None else done, newest)):
            self._append(table, self._values(piece, history), (end, imports), is_first=done is None)
            done = end
            yield piece.height

    def _rows(self, done: int | None) -> dict[str, pl.DataFrame]:
        """Return the rows that times after ``done`` depend on: all if nothing is done or a window has no end."""
        return {topic: self._rows_of(topic, done) for topic in self._spec.topics}

    def _rows_of(self, topic: str, done: int | None) -> pl.DataFrame:
        since_us = -1 if done is None else done * self._step - self._spec.longest_reach_us
        since = pa.scalar(since_us, pa.timestamp("us", "UTC"))
        keep = ds.field("__available_at") >= since
        for role in self._spec.roles_of(topic):
            keep |= ds.field(*role.time_field.split(".")) >= since
        columns = ["__available_at", *self._spec.fields_of(topic)]
        return self._log.select(topic, keep if since_us >= 0 else None, columns)

    def _counted(self, rows: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
        """Return the join keys and the times of the view's rows that are accepted."""
        wanted = [*self._spec.key_names, "__time", "__available_at"]
        accepted = {topic: each.filter(pl.col("__verdict") == ACCEPTED) for topic, each in rows.items()}
        return pl.concat([view_rows(each, self._spec, topic).select(wanted) for topic, each in accepted.items()])

    def _values(self, asked: pl.DataFrame, history: ViewHistory) -> pl.DataFrame:
        at_us = asked.get_column("__place").to_numpy() * self._step
        times = pl.Series(TIME, at_us).cast(pl.Datetime("us", "UTC"))
        keys = asked.drop("__place")
        found = available_features(history, keys, at_us)
        lists = found.with_columns(cs.array().arr.to_list())  # Delta has no arrays of a fixed length
        return keys.with_columns(times).hstack(lists)

    def _opened(self) -> DeltaTable | None:
        try:
            return DeltaTable(self.path)
        except TableNotFoundError:
            return None

    def _made(self, rows: pl.DataFrame, history: ViewHistory) -> DeltaTable:
        none = self._values(self._asked(rows, 0, -1), history)
        write_deltalake(self.path, none.to_arrow(compat_level=pl.CompatLevel.oldest()), mode="ignore")
        return DeltaTable(self.path)

    def _asked(self, rows: pl.DataFrame, done: int, newest: int) -> pl.DataFrame:
        """Return join keys and ``__place``: the times on the grid after ``done`` with an event one step before."""
        names = self._spec.key_names
        time, known = pl.col("__time"), pl.col("__available_at").dt.epoch("us")
        place = (time + self._step - 1) // self._step
        is_known = known + self._spec.delay_us <= place * self._step
        wanted = is_known & (place > done) & (place <= newest)
        present = pl.all_horizontal(pl.col(name).is_not_null() for name in names)
        asked = rows.filter(wanted & present).select(*names, place.alias("__place")).unique()
        return asked.sort("__place", *names)

    def _imports(self) -> int:
        """Return a number for the complete imports of the view's streams; 0 if there are none."""
        of_topics = sorted(each.source for each in Imports(self._log).all() if self._counts(each))
        digest = hashlib.sha256("\n".join(of_topics).encode()).digest()
        return int.from_bytes(digest[:8], "big") >> 1 if of_topics else 0

    def _counts(self, record: ImportRecord) -> bool:
        return record.topic in self._spec.topics and record.state == "complete"

    def _append(self, table: DeltaTable, rows: pl.DataFrame, done: tuple[int, int], *, is_first: bool) -> None:
        """Add the rows. The first piece of a view's version replaces everything.

        ``done`` is the place of the last time on the grid, and the number for the imports.
        """
        end, imports = done
        transactions = [Transaction(GRID, end), Transaction(SPEC, self._version)]
        if imports or table.transaction_version(IMPORTS):
            transactions.append(Transaction(IMPORTS, imports))
        write_deltalake(
            table,
            rows.to_arrow(compat_level=pl.CompatLevel.oldest()),
            mode="overwrite" if is_first else "append",
            schema_mode="overwrite" if is_first else None,
            commit_properties=CommitProperties(app_transactions=transactions),
        )


def _reached(rows: Mapping[str, pl.DataFrame]) -> int:
    """The time up to which the log has the rows of all partitions, except silent ones and imports."""
    places = pl.concat([each.select("__partition", "__topic_id", "__available_at") for each in rows.values()])
    of_topics = places.filter(~IMPORTED)
    places = places if of_topics.is_empty() else of_topics
    newest = (
        places.group_by("__partition", "__topic_id").agg(pl.col("__available_at").max()).get_column("__available_at")
    )
    times = newest.dt.epoch("us").to_numpy()
    return int(times[times >= times.max() - SILENT_US].min())


def _pieces(asked: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, int]]:
    """Split the rows into pieces of complete times, each with the place of its last time on the grid."""
    places = asked.get_column("__place").to_numpy()
    starts = [0, *_cuts(places), len(places)]
    for begin, end in pairwise(starts):
        if end > begin:
            yield asked[begin:end], int(places[end - 1])


def _cuts(places: np.ndarray) -> Sequence[int]:
    """Return where a new time begins after so many rows."""
    wanted = places[PIECE_ROWS::PIECE_ROWS]
    return sorted(set(np.searchsorted(places, wanted).tolist()))
