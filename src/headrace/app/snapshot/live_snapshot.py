"""The snapshot of a deployment, kept up to date by a thread that reads the control topics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.app.snapshot.control_topic_reader import ControlTopicReader
from headrace.app.snapshot.snapshot_fold import SnapshotFold
from headrace.base.background_loop import BackgroundLoop
from headrace.base.times import Clock, wall_clock
from headrace.errors import BusUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.project.settings import Settings
    from headrace.app.snapshot.snapshot import Snapshot

logger = structlog.get_logger(__name__)
_POLL_S, _AGAIN_S = 0.5, 2.0
_END_S = 3.0


class LiveSnapshot:
    """Reads in a thread between :meth:`start` and :meth:`stop`. Every error of Kafka is told in the snapshot.

    It has no client of Redis, of the event log or of the registry, and no producer: so a page that is made of it
    cannot write anything. ``models`` and ``streams`` are those of the project: they are shown before any is heard of.
    """

    def __init__(
        self,
        settings: Settings,
        servers: str,
        *,
        models: Sequence[str],
        streams: Sequence[str],
        clock: Clock = wall_clock,
    ) -> None:
        self._clock = clock
        self._fold = SnapshotFold(settings.topics, settings.signing, sorted(models), begun_us=clock())
        self._reader = ControlTopicReader(servers, settings.topics, self._fold, sorted(streams), clock)
        self._loop = BackgroundLoop("snapshot", self._step)
        self._said = ""

    def start(self) -> None:
        """Begin to read."""
        self._loop.start()

    def stop(self) -> None:
        """End the thread, and close the connections."""
        self._loop.stop(_END_S)
        self._reader.close()

    def read(self) -> Snapshot:
        """Return what is known now. Safe from any thread."""
        return self._fold.snapshot(self._clock())

    def _step(self) -> None:
        try:
            self._reader.poll(_POLL_S)
        except BusUnavailableError as error:  # the snapshot tells it, and a page has to recover soon
            if str(error) != self._said:
                logger.warning("Kafka cannot be read", error=str(error))
            self._said = str(error)
            self._loop.stopping.wait(_AGAIN_S)
