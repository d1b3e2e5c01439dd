"""The work of each second: deployments, heartbeats, the removal of fields that no look-up can see, the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.streams.plane.partition import PartitionPhase
from headrace.streams.views.view_memory import bound_memory

if TYPE_CHECKING:
    from headrace.base.waiting import UntilAvailable
    from headrace.features.online.store import OnlineStore
    from headrace.streams.plane.folding import Folding
    from headrace.streams.plane.followed_views import FollowedViews, ViewDeployer
    from headrace.streams.plane.partitions import Partitions
    from headrace.streams.plane.worker_reporter import WorkerReporter

logger = structlog.get_logger(__name__)


class Scavenger:
    """Removes the fields from the online store that no look-up can see any more.

    The views' clocks decide this, never the machine's clock. The scavenger goes round the store again and again, a step
    at a time. Any number of workers may do so at once, whether they own the partitions or not.
    docs/adr/0008-fields-go-by-the-clock.md explains why no look-up can reach a removed field.
    """

    def __init__(self, store: OnlineStore, views: FollowedViews) -> None:
        self._store, self._views = store, views
        self._position = 0

    def step(self) -> None:
        """Look at about a thousand keys. Raises OnlineStoreUnavailableError."""
        self._position, _ = self._store.scavenge(self._views.reach, self._position)


class Housekeeping:
    """The work of a worker that is not reading, folding or flushing. The loop calls it."""

    def __init__(
        self,
        partitions: Partitions,
        folding: Folding,
        *,
        deployer: ViewDeployer,
        scavenger: Scavenger,
        reporter: WorkerReporter,
        until_available: UntilAvailable,
        memory_bytes: int,
    ) -> None:
        self._partitions, self._folding, self._deployer = partitions, folding, deployer
        self._scavenger, self._reporter, self._until_available = scavenger, reporter, until_available
        self._memory_bytes = memory_bytes
        self._is_said = False

    def deploy(self) -> None:
        """Read new deployments, so that the cursors of a retired view are not acquired again."""
        self._deployer.step()

    def beat(self) -> None:
        """Deploy, write the heartbeats, scavenge, and report. Called once in each heartbeat interval."""
        self.deploy()
        beating = self._folding.beat()
        self._until_available(self._scavenger.step)
        for owned in beating:
            self._partitions.confirm(owned)
        self._reporter.report()
        self._say_ready()

    def _say_ready(self) -> None:
        """Log once that all views are up to date in the partitions that the worker has."""
        phases = self._partitions.phases()
        if not self._is_said and phases and set(phases.values()) == {PartitionPhase.LIVE}:
            self._is_said = True
            logger.info(
                "worker is ready",
                partitions=len(phases),
                topics=sorted({topic.partition("@")[0] for topic, _ in phases}),
            )

    def bound_memory(self) -> None:
        """Forget entities if the views hold more memory than they may. Do not call it between a fold and its write."""
        memories = {view.memory for owned in self._partitions.all_owned() for view in owned.views}
        bound_memory(memories, self._memory_bytes)
