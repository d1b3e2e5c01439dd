"""The state of a model's triggers. Each decision record keeps it; the last record is the state after a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import Instant, utc_datetime
from headrace.bus.message import Int64

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.models.model_state import ModelState

RunOutcome = Literal["published", "refused", "postponed", "failed"]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The last finished run: its end in event time, and the number of matured labels then.

    ``judged_us`` is set after a postponed run: the time of the run before it, or 0 if there was none. The cooldown
    counts from there. ``code`` is the identity of the code and the configuration with which a run failed. ``released``
    is set by a person: then the run holds no rule up. ``cancelled`` says who has cancelled the run, and why.
    ``again_us`` is the event time from which a postponed run can be judged; if it is not known, that is the next day.
    ``against`` is the id of the event that made the version live by which it would be judged; None if none was live.
    """

    run: str
    outcome: RunOutcome
    t_us: Instant
    matured_labels: Int64
    judged_us: Instant | UnsetType = UNSET
    code: str | UnsetType = UNSET
    released: bool | UnsetType = UNSET
    cancelled: str | UnsetType = UNSET
    again_us: Instant | UnsetType = UNSET
    against: str | UnsetType | None = UNSET

    @property
    def cooldown_from_us(self) -> int:
        """The event time from which the cooldown counts."""
        return self.t_us if self.judged_us is UNSET else self.judged_us


class RollbackPin(msgspec.Struct, frozen=True, kw_only=True):
    """The moment since which a rollback holds a version. ``event`` is the id of the model event that pins it."""

    t_us: Instant
    matured_labels: Int64
    event: str | UnsetType = UNSET


class TriggerState(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a model's triggers.

    ``live`` says whether a version is live. ``request`` is the id of an unfinished run. ``disarmed`` are the rules with
    hysteresis that asked and have not calmed down. ``asked_day`` is the day of the last request, counted since the
    epoch, and ``asked_count`` the number of requests on it. ``heard`` is the place of the last operator's request that
    was answered: the time of its record in milliseconds, and its offset. ``reset_heard`` is the place of a reset that
    was answered while a request before it had to wait. ``streaks`` has the first and the last day in a row of each
    consecutive rule that is met. ``abandoned`` is the number of runs since the baseline that had not ended when a
    person reset the triggers: the next run has another id than theirs.
    """

    baseline: Baseline | None = None
    request: str | None = None
    pin: RollbackPin | None = None
    live: bool = False
    disarmed: tuple[str, ...] = ()
    asked_day: Int64 = 0
    asked_count: Int64 = 0
    heard: tuple[Int64, Int64] | UnsetType = UNSET
    reset_heard: tuple[Int64, Int64] | UnsetType = UNSET
    streaks: dict[str, tuple[Int64, Int64]] | UnsetType = UNSET
    abandoned: Int64 | UnsetType = UNSET

    @property
    def baseline_labels(self) -> int:
        """The number of matured labels at the baseline; 0 before the first run."""
        return 0 if self.baseline is None else self.baseline.matured_labels

    @property
    def baseline_t_us(self) -> int:
        """The event time of the baseline; 0 before the first run."""
        return 0 if self.baseline is None else self.baseline.t_us

    def asked_on(self, day: int) -> int:
        """Return the number of runs that were asked for on a day.

        ``day`` counts from the epoch. It must not be before the day of the last request.
        """
        return self.asked_count if day == self.asked_day else 0

    @property
    def labels_since(self) -> str:
        """The run since which labels are counted, in words. A postponed run has judged nothing, so it is not that."""
        if self.baseline is None or self.baseline.outcome != "postponed":
            return self.since
        day = f"{utc_datetime(self.baseline.t_us):%Y-%m-%d}"
        return f"the run before the one of {day}, which was postponed" if self.baseline_labels else "the beginning"

    @property
    def since(self) -> str:
        """The baseline in words."""
        return "the beginning" if self.baseline is None else f"the run of {utc_datetime(self.baseline.t_us):%Y-%m-%d}"


def after_run(state: TriggerState, run: Baseline) -> TriggerState:
    """Return the state after a run ended. The end of the same run a second time changes nothing.

    The end of a run before the baseline changes nothing either, unless the triggers wait for that run: the baseline
    never goes back.

    A postponed run has judged nothing: cooldown and volume are still counted from the baseline before it. A failed run
    has judged nothing either: after both, the rules with hysteresis are armed again.
    """
    if state.baseline is not None and (state.baseline.run == run.run or _is_old(state, run)):
        return state
    if run.outcome == "postponed":
        judged_us = 0 if state.baseline is None else state.baseline.cooldown_from_us
        run = msgspec.structs.replace(run, matured_labels=state.baseline_labels, judged_us=judged_us)
    published = run.outcome == "published"
    request = None if state.request == run.run else state.request
    pin = None if published else state.pin
    disarmed = state.disarmed if run.outcome in {"published", "refused"} else ()
    return msgspec.structs.replace(
        state,
        baseline=run,
        request=request,
        live=state.live or published,
        pin=pin,
        disarmed=disarmed,
        streaks=UNSET,
        abandoned=UNSET if request is None else state.abandoned,
    )


def counted_inputs(state: TriggerState, still_counted: Callable[[int, int], int]) -> dict[str, int]:
    """Return the inputs of a decision that say how many labels of baseline and pin count now, where some do not.

    ``still_counted`` takes a number of labels and its time: :meth:`Evidence.still_counted`. Without these inputs
    labels that are excluded later would have to be made up for before a rule fires.
    """
    then: dict[str, tuple[int, int]] = {}
    if state.baseline is not None:
        then["baseline_labels"] = state.baseline.matured_labels, state.baseline.cooldown_from_us
    if state.pin is not None:
        then["pin_labels"] = state.pin.matured_labels, state.pin.t_us
    now = {name: still_counted(labels, t_us) for name, (labels, t_us) in then.items()}
    return {name: labels for name, labels in now.items() if labels != then[name][0]}


def as_counted(state: TriggerState, inputs: Mapping[str, Any]) -> TriggerState:
    """Return the state with the labels of baseline and pin as a decision's inputs count them."""
    baseline, pin = state.baseline, state.pin
    if baseline is not None and "baseline_labels" in inputs:
        baseline = msgspec.structs.replace(baseline, matured_labels=inputs["baseline_labels"])
    if pin is not None and "pin_labels" in inputs:
        pin = msgspec.structs.replace(pin, matured_labels=inputs["pin_labels"])
    return msgspec.structs.replace(state, baseline=baseline, pin=pin)


def _is_old(state: TriggerState, run: Baseline) -> bool:
    return run.run != state.request and run.t_us <= state.baseline_t_us


def reset(state: TriggerState) -> TriggerState:
    """Return the state without an open run and without a hold. Labels and time count from the same run as before.

    An open run goes on. The next one has another id, so it is a run of its own.
    """
    abandoned = state.abandoned if state.request is None else (state.abandoned or 0) + 1
    baseline = None if state.baseline is None else msgspec.structs.replace(state.baseline, released=True)
    return msgspec.structs.replace(
        state, baseline=baseline, request=None, disarmed=(), asked_count=0, streaks=UNSET, abandoned=abandoned
    )


def with_pin(state: TriggerState, event: str, t_us: int, matured_labels: int) -> TriggerState:
    """Return the state while an event pins a version. Labels are counted from ``t_us`` if the event is a new one."""
    pin = state.pin
    if pin is None or pin.event not in {UNSET, event}:
        pin = RollbackPin(t_us=t_us, matured_labels=matured_labels)
    return msgspec.structs.replace(state, pin=msgspec.structs.replace(pin, event=event), live=True)


def with_live(state: TriggerState, live: str | None) -> TriggerState:
    """Return the state while the event with the id ``live`` is in force; None if no version is live.

    From when on a postponed run can be judged was worked out for the version that was live then. Once a person has
    decided about it, that says nothing any more: the next run works it out.
    """
    baseline = state.baseline
    if baseline is None or baseline.again_us is UNSET or baseline.against in {UNSET, live}:
        return state
    again_us = min(baseline.again_us, baseline.t_us)
    return msgspec.structs.replace(state, baseline=msgspec.structs.replace(baseline, again_us=again_us))


def without_pin(state: TriggerState) -> TriggerState:
    """Return the state after the pin was removed."""
    return msgspec.structs.replace(state, pin=None)


def as_published(state: TriggerState, model: ModelState, t_us: int, matured_labels: int) -> TriggerState:
    """Bring the state in step with the model events: whether a version is live, and whether a person pins it.

    A version that waits for its approval counts as live: the first one is not asked for again.
    """
    state = with_live(state, model.live_id)
    if model.pin is not None:
        return with_pin(state, model.pin.id, t_us, matured_labels)
    if state.pin is not None:
        state = without_pin(state)
    return msgspec.structs.replace(state, live=model.version is not None or model.waiting is not None)
