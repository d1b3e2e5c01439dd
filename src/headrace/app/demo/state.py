"""What the demo knows of itself while it runs: the driver writes it, the view draws it."""

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
    """Times are microseconds UTC in event time.

    ``lag_ms`` is from the last produced event to its fold, ``step_ms`` a whole step.
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
    """Rule → (distance to firing from 0 to 1, reason), of the newest evaluation."""
    decisions: deque[DecisionLine] = field(default_factory=lambda: deque(maxlen=200))
    versions: list[VersionLine] = field(default_factory=list)
    auc_days: list[int] = field(default_factory=list)
    """Days since the epoch, with the rolling AUC of both models at their end; NaN where there is too little."""
    auc_live: list[float] = field(default_factory=list)
    auc_frozen: list[float] = field(default_factory=list)
