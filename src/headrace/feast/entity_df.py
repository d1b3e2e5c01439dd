"""The spine of a training set: Feast's ``entity_df``, a DataFrame or SQL over the event log."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
from feast.infra.offline_stores.offline_utils import infer_event_timestamp_from_entity_df

from headrace.errors import DefinitionError
from headrace.event_log.columns import ACCEPTED, META
from headrace.features.definitions.view_spec import NO_KEY, NO_KEY_VALUE
from headrace.features.offline.spine import keys_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np

    from headrace.event_log.event_log import EventLog

_TABLES = re.compile(r'\b(?:from|join)\s+(?:"([^"]+)"|`([^`]+)`|([A-Za-z_]\w*)(?!\w*\s*\())', re.IGNORECASE)


_EXACT = 2**53
"""Above it a float may stand for several whole numbers."""


class EntityFrame:
    """Rows in order, each with join keys and a time t. ``frame`` is the given frame; its times have a zone.

    A time without a zone is UTC. Raises DefinitionError for anything that is not such a frame, and Feast's error if no
    column is the time.
    """

    def __init__(self, entity_df: Any, log: EventLog) -> None:
        if isinstance(entity_df, str):
            entity_df = query(entity_df, log)
        elif hasattr(entity_df, "dask"):
            entity_df = entity_df.compute()
        if not isinstance(entity_df, pd.DataFrame):
            raise DefinitionError(
                f"entity_df is a {type(entity_df).__name__}: wanted a pandas or Dask DataFrame, or SQL over the event "
                "log. Rows for tiled views have to be named: there is no look-up without an entity_df"
            )
        self.time = infer_event_timestamp_from_entity_df({str(name): dtype for name, dtype in entity_df.dtypes.items()})
        times = pd.to_datetime(entity_df[self.time], utc=True)
        if times.isna().any():
            row = int(times.isna().to_numpy().argmax())
            raise DefinitionError(f"entity_df has no {self.time!r} in row {row}: wanted a time in each of its rows")
        self.frame = entity_df.assign(**{self.time: times}).reset_index(drop=True)

    @property
    def at_us(self) -> np.ndarray:
        """The time t of each row, in microseconds."""
        times: np.ndarray = self.frame[self.time].dt.as_unit("us").astype("int64").to_numpy()
        return times

    def keys(self, columns: Sequence[tuple[str, str, str]]) -> pl.DataFrame:
        """Return the join keys with the types of the event log, from triples (join key, column of the spine, kind).

        pandas turns whole numbers into floats if one of them is missing: they become whole numbers again.

        Raises DefinitionError for a column that does not exist or has other values.
        """
        return pl.DataFrame([self._key(*column) for column in columns])

    def lacks_none_of(self, columns: Iterable[str]) -> None:
        """Raise DefinitionError for a column that does not exist."""
        for column in columns:
            if column not in self.frame:
                raise DefinitionError(f"entity_df has no column {column!r}; it has {list(self.frame.columns)}")

    def has_none_of(self, features: Iterable[str]) -> None:
        """Raise DefinitionError for columns that have the names of features."""
        taken = [name for name in features if name in self.frame]
        if taken:
            raise DefinitionError(
                f"entity_df has columns of the names of features: {taken}; rename them, or ask for full_feature_names"
            )

    def _key(self, name: str, column: str, kind: str) -> pl.Series:
        if name == NO_KEY:
            return pl.Series(name, [NO_KEY_VALUE] * len(self.frame), pl.String)
        self.lacks_none_of([column])
        given = self.frame[column].astype(object)
        found = pl.Series(column, given.where(given.notna(), None).tolist(), strict=False)
        found = _whole(found) if kind == "int" and found.dtype.is_float() else found
        return keys_of(found.to_frame(), {column: kind}).to_series().alias(name)


def _whole(column: pl.Series) -> pl.Series:
    is_none = (column != column.floor()) | (column.abs() > _EXACT)
    if is_none.any():
        first = column.filter(is_none)[0]
        raise DefinitionError(
            f"entity_df: column {column.name!r} holds {first}, which is not a whole number up to 2**53; the "
            "views have it as int: cast it"
        )
    return column.cast(pl.Int64)


def query(sql: str, log: EventLog) -> pd.DataFrame:
    """Run a SELECT over the event log.

    A table is a topic, by its name in double quotes, with its accepted events; or a file, by ``read_parquet('…')``. The
    dialect is that of Polars. Raises DefinitionError if it does not run.
    """
    names = {next(filter(None, found)) for found in _TABLES.findall(sql)}
    frames = {name: log.read(name) for name in sorted(names) if log.exists(name)}
    context = pl.SQLContext({name: _events(frame) for name, frame in frames.items()})
    try:
        found: pd.DataFrame = context.execute(sql, eager=True).to_pandas()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DefinitionError(
            f"entity_df does not run as SQL: {error}. Tables are topics of the event log at {log.path('')}, in double "
            f"quotes (found of this query: {sorted(frames) or 'none'}), and read_parquet('path')"
        ) from error
    return found


def _events(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.filter(pl.col("__verdict") == ACCEPTED).drop(META.keys())
