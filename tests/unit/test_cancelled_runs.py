"""A run that a person has cancelled publishes nothing, and says who cancelled it and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.trainers.process.cancelled_runs import CancellableFits, CancelledRuns
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.operator_requests import OperatorRequest
from tests.support.orders_model import LIVE_FROM, Shop, day, request

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow  # a second and more for its scene


@pytest.mark.parametrize("before_fit", [0, 1, 2])
def test_a_run_that_is_cancelled_before_or_in_a_fit_publishes_nothing(tmp_path: Path, before_fit: int) -> None:
    cancelled, fits = CancelledRuns(), [0]
    asked = request("first", day(LIVE_FROM))

    def cancel() -> None:
        cancelled.hear(
            OperatorRequest(
                id="c",
                model=asked.model,
                action="cancel",
                by="ann",
                reason="bad day",
                at_us=0,
                request_id=asked.request_id,
            )
        )

    class Counted(InlineFits):
        def fit(self, task: Any) -> Any:
            fits[0] += 1
            if fits[0] == before_fit:
                cancel()
            return super().fit(task)

    scene = Shop(tmp_path, pool=CancellableFits(Counted(), cancelled))
    if not before_fit:
        cancel()
    ended = scene.runner().run(asked)
    assert (ended.outcome, ended.reason, fits[0]) == ("failed", "FitError: cancelled by ann: bad day", before_fit)
    assert scene.state.version is None
    assert scene.runner().run(request("other", day(LIVE_FROM))).outcome == "published"
