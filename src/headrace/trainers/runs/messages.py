"""The messages between triggers and trainers. They are JSON with a version in ``format``."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import Instant
from headrace.bus import message
from headrace.bus.message import Int64
from headrace.trainers.runs.holdout_span import HoldoutSpan
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.triggers.trigger_policy import Decision, WatchReport
from headrace.trainers.triggers.trigger_state import Baseline, RunOutcome, TriggerState

FORMAT = 1


class DecisionRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One record on the topic ``decisions``, keyed by model: an evaluation, an error of it, or the end of a run.

    Or the answer to an ``operator``: to a wish for a run (``asked``), or for a ``reset``. An ``error`` with an
    ``operator`` says why the request is not answered yet. ``state`` is the state of the triggers after it. After a
    restart they continue from the last record. ``since_us`` of an error is the time of the first one since rules were
    last evaluated. ``watched`` has all watched inputs of the model: it is there in the first evaluation of a day.
    """

    model: str
    kind: Literal["evaluated", "finished", "error", "asked", "reset"]
    t_us: Instant
    reason: str
    state: TriggerState
    decision: Decision | None = None
    run: str | None = None
    operator: OperatorRequest | UnsetType = UNSET
    since_us: Instant | UnsetType = UNSET
    watched: WatchReport | UnsetType = UNSET
    format: int = FORMAT


class RetrainRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Asks for one run on the topic ``retrain-requests``. The run uses what was matured and known at ``t_us``.

    ``lifts`` is the id of the pin that its publication ends. Without it the run is postponed while a version is pinned.
    """

    request_id: str
    model: str
    rule: str
    reason: str
    t_us: Instant
    matured_labels: Int64
    format: int = FORMAT
    lifts: str | UnsetType = UNSET


class RunEnded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a run on the topic ``runs``.

    ``holdout_days`` [from, to) are the days that the gate looked at, also if the run failed after it. ``holdout_us``
    [from, to) are the exact times, if these are not whole days.

    ``again_us`` is there for a postponed run, if it is known from when on it can be judged. ``against`` is the id of
    the event that made the version live for which that holds, None if none was live.

    ``code`` is the identity of the code and the configuration with which a run failed. ``cancelled`` is set if it
    failed because a person has cancelled it: then ``reason`` says who and why.
    """

    request_id: str
    model: str
    outcome: RunOutcome
    reason: str
    rule: str
    t_us: Instant
    matured_labels: Int64
    version: Int64 | None = None
    event_id: str | None = None
    gate: dict[str, Any] | None = None
    rows: Int64 = 0
    holdout_days: tuple[Int64, Int64] | None = None
    seconds: dict[str, float] = {}
    code: str | UnsetType = UNSET
    cancelled: bool | UnsetType = UNSET
    holdout_us: tuple[Instant, Instant] | UnsetType = UNSET
    again_us: Instant | UnsetType = UNSET
    against: str | UnsetType | None = UNSET
    format: int = FORMAT

    @property
    def holdout(self) -> HoldoutSpan | None:
        """The times that the gate looked at; None if it did not look."""
        if self.holdout_us is not UNSET:
            return HoldoutSpan(*self.holdout_us)
        return None if self.holdout_days is None else HoldoutSpan.of_days(*self.holdout_days)

    @property
    def baseline(self) -> Baseline:
        """The baseline that the run makes. What a person has cancelled is not asked for again because code changed."""
        is_cancelled = self.cancelled is not UNSET
        return Baseline(
            run=self.request_id,
            outcome=self.outcome,
            t_us=self.t_us,
            matured_labels=self.matured_labels,
            code=self.code if self.outcome == "failed" and not is_cancelled else UNSET,
            cancelled=self.reason if is_cancelled else UNSET,
            again_us=self.again_us if self.outcome == "postponed" else UNSET,
            against=self.against if self.outcome == "postponed" else UNSET,
        )


T = TypeVar("T", DecisionRecord, RetrainRequest, RunEnded)
_NAMES: dict[type, str] = {
    DecisionRecord: "a decision record",
    RetrainRequest: "a retrain request",
    RunEnded: "the end of a run",
}


def decode(data: bytes | None, kind: type[T]) -> T:
    """Return the message of this kind. Raises CodecError, and NewerFormatError for a message of a later release."""
    return message.decode(data, kind, FORMAT, _NAMES[kind])
