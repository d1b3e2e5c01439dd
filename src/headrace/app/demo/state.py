"""The state of a running demo: the driver writes it, and the view draws it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DecisionLine:
    """One evaluation of the rules, or the end of a run.

    ``what``: fired, not now, published, refused, postponed, failed.
    """

    t_us: int
    what: str
    rule: str
    reason: str


@dataclass(frozen=True)
class VersionLine:
    """A published version."""

    version: int
    cause: str
    published_us: int
    gate: str


@dataclass
class DemoState:
    """The phase, the counts and the curves of a running demo. Times are microseconds UTC in event time.

    ``lag_ms`` is the time from the last produced event to its fold, ``step_ms`` the time of a step.
    """

    mode: str
    from_us: int
    to_us: int
    phase: str = "starting"
    event_us: int = 0
    events: int = 0
    events_per_s: float = 0.0
    features: int = 0
    predictions: int = 0
    lag_ms: float = 0.0
    step_ms: float = 0.0
    progress: dict[str, tuple[float, str]] = field(default_factory=dict)
    """For each rule its progress towards firing (0 to 1) and its reason, from the newest evaluation."""
    decisions: deque[DecisionLine] = field(default_factory=lambda: deque(maxlen=200))
    versions: list[VersionLine] = field(default_factory=list)
    auc_days: list[int] = field(default_factory=list)
    """Days since the epoch. The next two lists have the rolling AUC at their end; few rows give NaN."""
    auc_live: list[float] = field(default_factory=list)
    auc_frozen: list[float] = field(default_factory=list)
    name: str = "demo"
    """The command that runs."""
