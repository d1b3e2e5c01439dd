"""Publishes the version of a run, unless a person has decided about the model since the run was judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from msgspec import UNSET

from headrace.base.failpoints import failpoint
from headrace.models.champion_alias import mend_alias
from headrace.models.intervention import told
from headrace.models.model_event_log import events
from headrace.models.model_events import ModelEvent, Published
from headrace.models.model_state import ModelState, fold

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.models.model_event_log import ModelEventLog
    from headrace.models.registry import Registry
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.runs.messages import RetrainRequest
    from headrace.trainers.triggers.trigger_state import RunOutcome

logger = structlog.get_logger(__name__)
_PUBLICATIONS = 3
"""The number of void publications of a challenger after which its run ends."""


@dataclass(frozen=True)
class Judged:
    """A challenger that was judged: the state of the model then, and the report of the gate."""

    state: ModelState
    report: GateReport


@dataclass(frozen=True)
class PublicationEnd:
    """The end of a challenger that was judged: published with this event, or why not."""

    outcome: RunOutcome
    reason: str
    report: GateReport
    event: ModelEvent | None = None


class VersionPublisher:
    """Publishes versions of one model, and keeps the registry's alias in step with its events."""

    def __init__(self, model: str, model_events: ModelEventLog, registry: Registry) -> None:
        self._model = model
        self._events = model_events
        self._registry = registry

    def state(self) -> ModelState:
        """Return the state of the model at the present end of the log. Raises BusUnavailableError."""
        return fold(events(self._events.read(), self._model))

    def publish(
        self,
        judged: Judged,
        request_id: str,
        event_of: Callable[[Judged], ModelEvent],
        judge_again: Callable[[ModelState], GateReport],
    ) -> PublicationEnd:
        """Append the publication. If another champion came first, judge the challenger by that one and try again.

        A person's decision in the meantime holds: the challenger was judged against something else, so its run ends.
        """
        reason = ""
        for _ in range(_PUBLICATIONS):
            if judged.report.verdict != "passed":
                return PublicationEnd(judged.report.verdict, judged.report.reason, judged.report)
            event = event_of(judged)
            self._events.append(event)
            failpoint("after-publish")
            after = self.state()
            published = after.request(request_id)
            if published is not None:
                return self._published(published, judged.report)
            reason = next(void.reason for void in reversed(after.void) if void.event.id == event.id)
            overruled = overruled_by(judged.state, after)
            if overruled:
                return PublicationEnd("postponed", f"void: {reason}; {overruled}", judged.report)
            if after.live_id == judged.state.live_id:  # no other champion: it would be void again
                return PublicationEnd("failed", f"void: {reason}", judged.report)
            logger.info("void: judged again", request=request_id, reason=reason)
            judged = Judged(after, judge_again(after))
        if judged.report.verdict != "passed":
            return PublicationEnd(judged.report.verdict, judged.report.reason, judged.report)
        reason = f"void {_PUBLICATIONS} times, as others published meanwhile; at last: {reason}"
        return PublicationEnd("postponed", reason, judged.report)

    def _published(self, event: ModelEvent, report: GateReport) -> PublicationEnd:
        self.mend_alias()
        failpoint("after-alias")
        waits = isinstance(event.data, Published) and event.data.approval is not UNSET
        version = event.data.version
        reason = f"{report.reason}; version {version} waits for `headrace models promote {self._model} {version}`"
        return PublicationEnd("published", reason if waits else report.reason, report, event)

    def mend_alias(self) -> None:
        """Make the registry's alias name the live version. A registry that is away is logged: it is mended later."""
        try:
            mend_alias(self.state, self._registry, self._model)
        except Exception as error:  # noqa: BLE001 - a registry raises anything; the publication stands
            logger.warning("the registry's alias could not be set", model=self._model, error=str(error))


def held_by(state: ModelState, request: RetrainRequest) -> str:
    """Return why no version of this request may be published now, in words; an empty text if one may."""
    pin = state.pin
    return "" if pin is None or request.lifts == pin.id else f"{told(pin)}; the request does not lift this pin"


def overruled_by(judged: ModelState, now: ModelState) -> str:
    """Return the decision of a person that a challenger of ``judged`` cannot stand against; else an empty text.

    To unpin the version against which it was judged is none: it is judged again.
    """
    live = now.live
    if live is None or live.id == judged.live_id or isinstance(live.data, Published):
        return ""
    return told(live) if now.pinned or now.version != judged.version else ""
