"""The specs of trigger rules: one struct for each kind of rule. On the wire ``rule`` tells them apart."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

Against = Literal["first_days", "previous_version", "refit"]
"""What a performance rule compares the live version with."""


class TriggerSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="rule"):
    """A trigger rule as data. A rule of your own has a subclass with a tag of its own."""


class VolumeSpec(TriggerSpec, frozen=True, kw_only=True, tag="volume"):
    """A trigger on this number of matured labels since the last finished run."""

    labels: int


class ScoreDriftSpec(TriggerSpec, frozen=True, kw_only=True, tag="drift"):
    """A trigger on a PSI above ``psi``, over the newest ``sample`` of days. ``on`` names the watched quantity.

    ``false_alarms`` is the rate that is asked for, such as ``3/year``.
    """

    on: Literal["score"] = "score"
    psi: float
    sample: str
    false_alarms: str | UnsetType = UNSET


class PerformanceSpec(TriggerSpec, frozen=True, kw_only=True, tag="performance"):
    """A trigger on a live metric that is worse by more than ``drop`` than ``against``.

    ``days`` and ``outcomes`` are the least that it is judged by. What is usual is left out.
    """

    metric: str
    drop: float
    against: Against | UnsetType = UNSET
    days: int | UnsetType = UNSET
    outcomes: int | UnsetType = UNSET


class ScheduleSpec(TriggerSpec, frozen=True, kw_only=True, tag="schedule"):
    """A trigger that asks for a run each time when ``every`` is over, in event time."""

    every: str


class AtLeastSpec(TriggerSpec, frozen=True, kw_only=True, tag="at_least"):
    """A trigger that fires if at least ``count`` of the named rules fire."""

    count: int
    rules: dict[str, TriggerSpec]


class ConsecutiveSpec(TriggerSpec, frozen=True, kw_only=True, tag="consecutive"):
    """The rule ``of``, which has to fire on this number of days in a row."""

    days: int
    of: TriggerSpec


class HysteresisSpec(TriggerSpec, frozen=True, kw_only=True, tag="hysteresis"):
    """The rule ``of`` with hysteresis: it is armed again when its progress is ``rearm`` or less."""

    rearm: float
    of: TriggerSpec
