"""Writes what triggers decide: decision records, and requests for runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import structlog
from msgspec import UNSET

from headrace.base.failpoints import failpoint
from headrace.trainers.process.decision_changes import DecisionChanges
from headrace.trainers.runs.messages import RetrainRequest

if TYPE_CHECKING:
    from headrace.bus.control_topics import ControlTopics
    from headrace.trainers.runs.messages import DecisionRecord
    from headrace.trainers.triggers.trigger_policy import Decision

logger = structlog.get_logger(__name__)
SendMessage = Callable[[str, bytes, bytes], None]
"""Sends (topic, key, value). It returns when the broker has the message."""


class DecisionWriter:
    """Sends the records that say something new, and reports all of them."""

    def __init__(self, topics: ControlTopics, send: SendMessage, report: Callable[[DecisionRecord], None]) -> None:
        self._topics = topics
        self._send = send
        self._report = report
        self.changes = DecisionChanges()

    def record(self, record: DecisionRecord) -> None:
        """Write a record, if it says something new. Raises what sending raises."""
        if self.changes.wanted(record):
            self._send(self._topics.decisions, record.model.encode(), msgspec.json.encode(record))
            failpoint("after-decision")
            self.changes.written(record)
        self._report(record)

    def ask(self, model: str, decision: Decision, request_id: str) -> None:
        """Ask for the run of a decision. Raises what sending raises."""
        logger.info("asking for a run", model=model, rule=decision.rule, reason=decision.reason)
        request = RetrainRequest(
            request_id=request_id,
            model=model,
            rule=decision.rule,
            reason=decision.reason,
            t_us=decision.t_us,
            matured_labels=decision.inputs["matured_labels"],
            lifts=UNSET if decision.state.pin is None else decision.state.pin.event,
        )
        self._send(self._topics.retrain_requests, model.encode(), msgspec.json.encode(request))
