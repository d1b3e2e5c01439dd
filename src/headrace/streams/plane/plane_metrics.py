"""What a data plane tells whoever measures it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.streams.plane.worker_report import WorkerReport


class PlaneMetrics:
    """Measures nothing. One that does is quick, never raises, and is called from several threads; times in seconds."""

    def batch(self, records: int, seconds: float) -> None:
        """So many records were judged, folded and written to the online store, all in that time."""

    def rejected(self, topic: str, reasons: pl.Series) -> None:
        """Records of a topic were rejected, each for its reason."""

    def wrote(self, applied: Sequence[bool], seconds: float) -> None:
        """The online store took that long for some writes; False: refused."""

    def flushed(self, topic: str, rows: int, seconds: float) -> None:
        """The event log took that long for a commit."""

    def observed(self, observation: WorkerReport, ends: Mapping[tuple[str, int], int]) -> None:
        """Where everything stands, each second; ``ends`` are the high watermarks that are known, by place."""
