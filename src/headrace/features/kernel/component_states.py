"""The state that each component keeps in a tile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headrace.features.kernel.recency import TwoNewestState
from headrace.features.kernel.shape import CovarianceState, DecayedMeanState, PowersState, TrendState
from headrace.features.kernel.states import (
    FOREVER,
    NEVER,
    DecayedState,
    ExtremeState,
    MomentsState,
    NewestRowState,
    UfuncState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.features.kernel.states import Component, State

_STATES: dict[str, Callable[[Component], State]] = {
    "add": lambda c: UfuncState(np.add, c.dtype, 0 if c.dtype == "<i8" else 0.0),
    "min": lambda c: UfuncState(np.minimum, c.dtype, FOREVER if c.dtype == "<i8" else np.inf),
    "max": lambda c: UfuncState(np.maximum, c.dtype, NEVER if c.dtype == "<i8" else -np.inf),
    "first": lambda c: ExtremeState(c.dtype, latest=False),
    "last": lambda c: ExtremeState(c.dtype, latest=True),
    "row_value": lambda c: NewestRowState(c.dtype, latest=True),
    "moments": lambda _: MomentsState(),
    "decayed": lambda c: DecayedState(c.argument),
    "skew": lambda _: PowersState(3),
    "kurtosis": lambda _: PowersState(4),
    "correlation": lambda _: CovarianceState(),
    "trend": lambda _: TrendState(),
    "decayed_mean": lambda c: DecayedMeanState(c.argument),
    "two_newest": lambda _: TwoNewestState(),
}


def state_of(component: Component) -> State:
    """Return the state that a component keeps in each tile."""
    return _STATES[component.op](component)
