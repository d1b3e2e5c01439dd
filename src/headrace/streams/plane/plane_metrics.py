"""The port for measuring a data plane."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.bus.worker_report import WorkerReport


class PlaneMetrics:
    """The port: every method does nothing. An implementation is quick and never raises. Times are in seconds."""

    def batch(self, records: int, seconds: float) -> None:
        """Called after a batch was judged, folded and written to the online store. ``seconds`` is its duration."""

    def rejected(self, topic: str, reasons: pl.Series) -> None:
        """Called after records of a topic were rejected. ``reasons`` has one reason for each record."""

    def wrote(self, applied: Sequence[bool], seconds: float) -> None:
        """Called after the online store answered some writes. ``applied`` is False for a refused write."""

    def flushed(self, topic: str, rows: int, seconds: float) -> None:
        """Called after a commit of the event log. ``seconds`` is its duration."""

    def reported(self, report: WorkerReport, ends: Mapping[tuple[str, int], int]) -> None:
        """Called each second with the worker's report. ``ends`` are the high watermarks that are known, by place."""
