"""The specs of trigger rules: one struct for each kind of rule. On the wire ``rule`` tells them apart."""

from __future__ import annotations

from typing import Literal

import msgspec

from headrace.trainers.day_scores import Metric


class TriggerSpec(msgspec.Struct, frozen=True, kw_only=True, tag_field="rule"):
    """A trigger rule as data. A rule of your own has a subclass with a tag of its own."""


class VolumeSpec(TriggerSpec, frozen=True, kw_only=True, tag="volume"):
    """So many matured labels since the last finished run."""

    labels: int


class ScoreDriftSpec(TriggerSpec, frozen=True, kw_only=True, tag="drift"):
    """A PSI of the newest ``sample`` of days above ``psi``. ``on`` is what is watched."""

    on: Literal["score"] = "score"
    psi: float
    sample: str


class PerformanceSpec(TriggerSpec, frozen=True, kw_only=True, tag="performance"):
    """A fall of the live metric by more than ``drop``."""

    metric: Metric
    drop: float


class ScheduleSpec(TriggerSpec, frozen=True, kw_only=True, tag="schedule"):
    """A run each ``every``, in event time."""

    every: str


class AtLeastSpec(TriggerSpec, frozen=True, kw_only=True, tag="at_least"):
    """At least ``count`` of the rules, which are named."""

    count: int
    rules: dict[str, TriggerSpec]


class HysteresisSpec(TriggerSpec, frozen=True, kw_only=True, tag="hysteresis"):
    """The rule ``of``, which is armed again at the progress ``rearm``."""

    rearm: float
    of: TriggerSpec
