"""A run that a person has cancelled publishes nothing, and says who cancelled it and why."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.process.cancelled_runs import CancellableFits, CancelledRuns
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.runs.training_runner import RunOptions
from tests.support.orders_model import LIVE_FROM, Shop, day, fit, model, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.runs.messages import RetrainRequest

pytestmark = pytest.mark.slow  # a second and more for its scene


def cancels(asked: RetrainRequest) -> OperatorRequest:
    return OperatorRequest(
        id="c", model=asked.model, action="cancel", by="ann", reason="bad day", at_us=0, request_id=asked.request_id
    )


@pytest.mark.parametrize("before_fit", [0, 1, 2])
def test_a_run_that_is_cancelled_before_or_in_a_fit_publishes_nothing(tmp_path: Path, before_fit: int) -> None:
    cancelled, fits = CancelledRuns(), [0]
    asked = request("first", day(LIVE_FROM))

    def cancel() -> None:
        cancelled.hear(cancels(asked))

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


def test_a_run_that_was_cancelled_before_a_trainer_takes_it_ends_without_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, asked, scene = CancelledRuns(), request("first", day(LIVE_FROM)), Shop(tmp_path)
    cancelled.hear(cancels(asked))
    runner = scene.runner(options=RunOptions(cancelled=cancelled.why))
    with monkeypatch.context() as unread:
        unread.setattr(ExampleBuilder, "build", never)
        ended = runner.run(asked)
    assert (ended.outcome, ended.reason) == ("failed", "FitError: cancelled by ann: bad day")
    assert runner.run(request("other", day(LIVE_FROM))).outcome == "published"


def test_a_cancel_that_comes_after_the_verdict_does_not_change_it(tmp_path: Path) -> None:
    """The trainer died before it could tell of its verdict: the next one takes the same request."""
    scene, asked = Shop(tmp_path), request("first", day(LIVE_FROM))
    refused = scene.runner(replace(model, train=learns_the_opposite)).run(asked)
    assert refused.outcome == "refused"
    cancelled = CancelledRuns()
    cancelled.hear(cancels(asked))
    again = scene.runner(options=RunOptions(cancelled=cancelled.why)).run(asked)
    assert (again.outcome, again.reason) == ("refused", refused.reason)


def never(*_: object, **__: object) -> Any:
    raise AssertionError("the training set is built")


def learns_the_opposite(X: Any, y: Any, run: Any) -> Any:  # noqa: N803 - what everyone calls it
    return fit(X, 1 - y, run)
