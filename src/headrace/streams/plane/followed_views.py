"""The views that a worker folds, as they come and go."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Protocol

from headrace.streams.views.view_partition import reach

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from headrace.base.waiting import UntilAvailable
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.streams.plane.acquisition import Acquisition
    from headrace.streams.plane.partition_opener import PartitionOpener
    from headrace.streams.plane.partitions import Partitions


class ViewDefinitions(Protocol):
    """The views to fold. :class:`FixedViews` never change; a Rollout follows the deployments."""

    def specs(self) -> Sequence[ViewSpec]:
        """Return the views to fold now. Called once, when the worker begins."""
        ...

    def step(self) -> Sequence[ViewSpec]:
        """Read new deployments, and return the views to fold from now on. Called about once a second.

        After a TransientError it is called again.
        """
        ...

    def publish(self) -> None:
        """Put the definitions into the store. Called first, and before each acquisition: a store may lose them."""
        ...


class FixedViews:
    """Views that never change. ``publish`` puts their definitions into the store; None: somebody else does it."""

    def __init__(self, specs: Sequence[ViewSpec], publish: Callable[[], None] | None = None) -> None:
        self._specs, self._publish = list(specs), publish

    def specs(self) -> Sequence[ViewSpec]:
        """Return the views."""
        return self._specs

    def step(self) -> Sequence[ViewSpec]:
        """Return the views."""
        return self._specs

    def publish(self) -> None:
        """Put the definitions into the store."""
        if self._publish is not None:
            self._publish()


class FollowedViews:
    """The views of the last :meth:`step` by topic, and their reach.

    The reach of a view is how far before its clock the oldest event is that a look-up can see: longest window plus
    history.
    """

    def __init__(self, definitions: ViewDefinitions) -> None:
        self._definitions = definitions
        self._specs: list[ViewSpec] = []
        self.by_topic: dict[str, list[ViewSpec]] = defaultdict(list)
        self.reach: dict[str, timedelta] = {}
        self._set(definitions.specs())

    def step(self) -> bool:
        """Read new deployments. Return whether the views have changed. Raises TransientError."""
        found = list(self._definitions.step())
        if found == self._specs:
            return False
        self._set(found)
        return True

    def _set(self, specs: Sequence[ViewSpec]) -> None:
        self._specs = list(specs)
        self.reach = {spec.versioned_name: reach(spec) for spec in specs}
        self.by_topic.clear()
        for spec in specs:
            for topic in spec.topics:
                self.by_topic[topic].append(spec)


class ViewDeployer:
    """Gives each partition the views of the newest deployment. Waits for stores that are away."""

    def __init__(
        self,
        views: FollowedViews,
        partitions: Partitions,
        opener: PartitionOpener,
        acquisition: Acquisition,
        until_available: UntilAvailable,
    ) -> None:
        self._views, self._partitions, self._opener = views, partitions, opener
        self._acquisition, self._until_available = acquisition, until_available

    def step(self) -> None:
        """Read new deployments. Acquire the cursors of new views; do not touch the cursors of views that left."""
        if self._until_available(self._views.step):
            imports_first = sorted(self._partitions.all_owned(), key=lambda owned: not owned.source.is_import)
            for owned in imports_first:  # so no view is live before its history is counted
                self._acquisition.follow(owned, self._opener.views(owned))
