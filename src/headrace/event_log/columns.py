"""The columns of every table of the event log, and the verdicts on a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.bus.codec import schema
from headrace.bus.source_partition import IMPORT_MARK
from headrace.bus.stream_spec import OPERATION

if TYPE_CHECKING:
    from headrace.bus.stream import Stream

_TIME = pl.Datetime("us", "UTC")
META: dict[str, Any] = {
    "__topic_id": pl.Binary(),
    "__partition": pl.Int32(),
    "__offset": pl.Int64(),
    "__record_timestamp": _TIME,
    "__available_at": _TIME,
    "__verdict": pl.String(),
    "__reason": pl.String(),
    "__error": pl.String(),
    "__key": pl.Binary(),
    "__value": pl.Binary(),
}
"""The columns that headrace adds to the event's own fields."""
IDENTITY = ("__topic_id", "__partition", "__offset", "__verdict")
"""The columns that identify a row. Every read returns them."""
ACCEPTED, REJECTED, DUPLICATE = "accepted", "rejected", "duplicate"
"""The verdicts in the column ``__verdict``."""

IMPORTS_TABLE = "_headrace_imports"
"""The table of the imports: see imports.py."""
IMPORTED = pl.col("__topic_id").bin.starts_with(IMPORT_MARK)
"""True for the rows of imports, which no topic has. Their source partitions are complete, so their clocks stand still.
"""


def log_schema(stream: Stream) -> dict[str, Any]:
    """Return the Polars schema of a stream's table: :data:`META`, then the event's fields.

    A table's has the operation of each record between them.
    """
    own = {OPERATION: pl.String()} if stream.spec.table else {}
    return META | own | schema(stream)
