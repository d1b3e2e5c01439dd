"""What a model's log has read in any pieces is what it reads at once."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.bus.source_partition import NO_CLOCK
from headrace.trainers.data.topic_rows import TopicRows

if TYPE_CHECKING:
    from headrace.event_log.readable_log import LogReader

Row = tuple[int, int, str, int]
_SCHEMA: dict[str, Any] = {
    "__verdict": pl.String,
    "__available_at": pl.Datetime("us", "UTC"),
    "__partition": pl.Int32,
    "__topic_id": pl.Binary,
    "key": pl.String,
    "__offset": pl.Int64,
}


class Pieces:
    """A reader that gives one piece a call. Nothing is undone, so it never begins again."""

    restarts = 0

    def __init__(self, pieces: list[pl.DataFrame]) -> None:
        self._pieces = pieces

    def read(self, snapshot: object = None) -> pl.DataFrame:
        """The next piece."""
        return self._pieces.pop(0)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.sampled_from("abc")), max_size=30),
    st.lists(st.integers(0, 30), max_size=4),
    st.booleans(),
)
def test_reading_the_model_log_in_any_pieces_gives_the_same_rows(
    rows: list[tuple[int, int, str]], cuts: list[int], unique: bool
) -> None:
    content = pl.DataFrame(
        [("accepted", at, partition, b"topic", key, offset) for offset, (at, partition, key) in enumerate(rows)],
        schema=_SCHEMA,
        orient="row",
    )
    ends = [0, *sorted(cuts), len(rows)]
    pieces = [content[low:high] for low, high in itertools.pairwise(ends)]
    selection, keys = [pl.col("key")], ["key"] if unique else None
    table = TopicRows(cast("LogReader", Pieces(list(pieces))), selection, unique=keys)
    found = table.frame()
    for _ in pieces[1:]:
        table.settle()
        before, found = found, table.frame()
        assert found[: table.unchanged].equals(before[: table.unchanged])
    whole = TopicRows(cast("LogReader", Pieces([content])), selection, unique=keys)
    assert found.equals(whole.frame())
    latest: dict[int, int] = {}
    for at, partition, _ in rows:
        latest[partition] = max(at, latest.get(partition, at))
    assert whole.clock_us() == min(latest.values(), default=NO_CLOCK)
