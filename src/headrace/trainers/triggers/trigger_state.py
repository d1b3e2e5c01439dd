"""What a model's triggers remember. It is kept in each decision record: the last one is the state after a restart."""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.base.times import utc_datetime

RunOutcome = Literal["published", "refused", "postponed", "failed"]


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """The last finished run: when it finished in event time, and the matured labels there were."""

    run: str
    outcome: RunOutcome
    t_us: int
    matured_labels: int


class RollbackPin(msgspec.Struct, frozen=True, kw_only=True):
    """A rollback holds the version since then."""

    t_us: int
    matured_labels: int


class TriggerState(msgspec.Struct, frozen=True, kw_only=True):
    """The memory of a model's triggers. ``live``: some version is live. ``request``: the run asked for, unfinished.

    ``disarmed`` are the rules with hysteresis that asked and have not calmed down; ``asked_day`` is the day, since the
    epoch, of the last request, and ``asked_count`` how many there were on it.
    """

    baseline: Baseline | None = None
    request: str | None = None
    pin: RollbackPin | None = None
    live: bool = False
    disarmed: tuple[str, ...] = ()
    asked_day: int = 0
    asked_count: int = 0

    @property
    def baseline_labels(self) -> int:
        """The matured labels at the baseline."""
        return 0 if self.baseline is None else self.baseline.matured_labels

    @property
    def baseline_t_us(self) -> int:
        """The event time of the baseline; 0 before the first run."""
        return 0 if self.baseline is None else self.baseline.t_us

    def asked_on(self, day: int) -> int:
        """How many runs were asked for on a day, counted since the epoch, that is not before the last request's."""
        return self.asked_count if day == self.asked_day else 0

    @property
    def since(self) -> str:
        """The baseline in words."""
        return "the beginning" if self.baseline is None else f"the run of {utc_datetime(self.baseline.t_us):%Y-%m-%d}"


def finished(state: TriggerState, run: Baseline) -> TriggerState:
    """The state after a run finished, whatever came of it. The same run twice changes nothing.

    A postponed run has judged nothing: the cooldown begins, and the volume goes on from the baseline before it. Neither
    has a failed one: after both, rules with hysteresis are armed again.
    """
    if state.baseline is not None and state.baseline.run == run.run:
        return state
    if run.outcome == "postponed":
        run = msgspec.structs.replace(run, matured_labels=state.baseline_labels)
    published = run.outcome == "published"
    request = None if state.request == run.run else state.request
    pin = None if published else state.pin
    disarmed = state.disarmed if run.outcome in {"published", "refused"} else ()
    return msgspec.structs.replace(
        state, baseline=run, request=request, live=state.live or published, pin=pin, disarmed=disarmed
    )


def pinned(state: TriggerState, t_us: int, matured_labels: int) -> TriggerState:
    """The state after a rollback that pins."""
    return msgspec.structs.replace(state, pin=RollbackPin(t_us=t_us, matured_labels=matured_labels), live=True)


def unpinned(state: TriggerState) -> TriggerState:
    """The state after the pin was taken off."""
    return msgspec.structs.replace(state, pin=None)
