"""The port for measuring a data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.streams.plane.worker_report import WorkerReport


class PlaneMetrics:
    """Measures nothing. An implementation is quick and never raises. Times are in seconds."""

    def batch(self, records: int, seconds: float) -> None:
        """A batch of records was judged, folded and written to the online store; it took this time."""

    def rejected(self, topic: str, reasons: pl.Series) -> None:
        """Records of a topic were rejected: one reason for each."""

    def wrote(self, applied: Sequence[bool], seconds: float) -> None:
        """The online store answered some writes, after this time. ``applied`` is False for a refused write."""

    def flushed(self, topic: str, rows: int, seconds: float) -> None:
        """A commit of the event log was made; it took this time."""

    def reported(self, report: WorkerReport, ends: Mapping[tuple[str, int], int]) -> None:
        """Called each second with the worker's report. ``ends`` are the high watermarks that are known, by place."""
