"""A run under way: its data, what has come of it so far, and how long its steps take."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.event_log.readable_log import LogSnapshot
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.runs.fit_task import FitResult
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.runs.holdout import HoldoutSplit
    from headrace.trainers.runs.kept_fits import KeptScores
    from headrace.trainers.runs.messages import RetrainRequest
    from headrace.trainers.runs.provenance import RunInputs


class RunWatch:
    """Is told how runs go on: one after the other, in the thread of the runs. The methods do nothing, and never raise.

    A run that waits for a store begins once more when the store answers.
    """

    def began(self, request: RetrainRequest) -> None:
        """Called before a run does anything."""

    def reached(self, phase: str) -> None:
        """Called when a step of the run begins: see ``PHASES``."""

    def ended(self) -> None:
        """Called when the run has ended."""


@dataclass
class StepTimer:
    """Adds up how long the steps of a run take. ``seconds`` maps the name of a step to its time, rounded to 1 ms.

    ``watch`` is told of each step that begins.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    watch: RunWatch = field(default_factory=RunWatch)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to the step, also if the block raises."""
        self.watch.reached(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            spent = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self.seconds[name] = round(spent, 3)


@dataclass
class RunUnderWay:
    """One run: the request, the snapshot that it reads, and the examples made from the snapshot.

    ``fitted`` is the challenger, once there is one. ``reports`` has what the gate said of it, by the version of the
    champion, which is None before the first one. ``kept`` has what the gated fits of versions say of the holdout.
    """

    request: RetrainRequest
    timer: StepTimer
    inputs: RunInputs
    snapshot: LogSnapshot
    examples: Examples
    split: HoldoutSplit
    fitted: FitResult | None = None
    reports: dict[int | None, GateReport] = field(default_factory=dict)
    kept: dict[int, KeptScores] = field(default_factory=dict)
