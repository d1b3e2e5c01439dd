"""The registry's alias ``champion`` follows the live version, whoever changed it.

A trainer may be killed after a publication, before it sets the alias, or the registry may be away. Then the alias names
an older version until it is mended here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from headrace.errors import UnknownVersionError
from headrace.models.intervention import told
from headrace.models.model_event_log import FoldedEvents

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace.base.times import Duration
    from headrace.models.model_event_log import ModelEventLog
    from headrace.models.model_state import ModelState
    from headrace.models.registry import Registry

logger = structlog.get_logger(__name__)
_ATTEMPTS = 5


def mend_alias(state: Callable[[], ModelState], registry: Registry, model: str) -> None:
    """Make the alias name the live version.

    ``state`` is read again after each change: if two processes mend at once, the later one sees the newest event. A
    version that is not in this registry is left out. Raises what the registry raises.
    """
    for _ in range(_ATTEMPTS):
        version = state().version
        if version is None or registry.champion(model) == version:
            return
        try:
            registry.promote(model, version)
        except UnknownVersionError as error:
            logger.warning("the live version is not in this registry", model=model, error=str(error))
            return


class ChampionAliases:
    """Mends the aliases of some models, at first and after each model event. For one thread."""

    def __init__(self, log: ModelEventLog, registry: Callable[[], Registry], models: Sequence[str]) -> None:
        self._events = FoldedEvents(log)
        self._registry = registry
        self._mended: dict[str, str | None] = dict.fromkeys(models)

    def mend(self, wait: Duration = "0s") -> None:
        """Mend the aliases of the models whose live event is new. Wait up to ``wait`` for an event.

        Raises BusUnavailableError, and what the registry raises: the next call mends the rest.
        """
        self._events.read_on(wait)
        for model, mended in self._mended.items():
            live = self._events.state(model).live
            if live is not None and live.id != mended:
                mend_alias(partial(self._events.state, model), self._registry(), model)
                self._mended[model] = live.id
                logger.info("model event in force", model=model, version=live.data.version, said=told(live))
