"""Catching up reads the log in bounded pieces."""

from __future__ import annotations

from typing import Any

import polars as pl

from headrace.features.online import Source
from headrace.streams.acquisition import Acquisition
from headrace.streams.partition import OwnedPartition
from headrace.streams.retries import Retries

SOURCE = Source(0, b"0" * 16)


class SparseLog:
    """Has the even offsets, but for those of an accepted gap; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def read_from(self, _: str, source: Source, start: int, end: int) -> pl.DataFrame:
        assert source == SOURCE
        self.asked.append((start, end))
        return pl.DataFrame({"__offset": [at for at in range(start, end) if at % 2 == 0 and not 300 <= at < 600]})


def beyond(position: int, end: int, tail: list[pl.DataFrame]) -> tuple[SparseLog, list[list[int]]]:
    log: Any = SparseLog()
    store: Any = None
    retries: Retries[tuple[str, int]] = Retries(1, 1, monotonic=lambda: 0.0, chance=lambda: 0.0)
    acquisition = Acquisition(
        store, log, {}, retries, new_owner=lambda: b"", publish=lambda: None, catch_up_rows=100
    )  # fmt: skip
    owned = OwnedPartition("t", SOURCE, [], next_offset=end, reads_from=end, partitions=1)
    pieces = [piece.get_column("__offset").to_list() for piece in acquisition._beyond(position, owned, end, tail)]
    return log, pieces


def test_a_large_catch_up_is_read_in_pieces_that_meet_and_end_at_d() -> None:
    log, pieces = beyond(37, 1_010, [])
    assert (log.asked[0][0], log.asked[-1][1]) == (37, 1_010)
    assert all(before[1] == after[0] for before, after in zip(log.asked, log.asked[1:], strict=False))
    assert max(end - start for start, end in log.asked) == 100
    assert [at for piece in pieces for at in piece] == [at for at in range(38, 1_010, 2) if not 300 <= at < 600]
    assert all(pieces), "an accepted gap gives no empty piece"


def test_the_buffer_follows_the_log_in_pieces_of_the_same_size() -> None:
    log, pieces = beyond(50, 50, [pl.DataFrame({"__offset": range(50, 300)}), pl.DataFrame({"__offset": [300]})])
    assert log.asked == []
    assert [len(piece) for piece in pieces] == [100, 100, 50, 1]
