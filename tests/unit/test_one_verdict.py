"""A request has one verdict, and its run pays for one look: also after kills, outages and failures."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer

from headrace.errors import RegistryUnavailableError
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.model_events import ModelEvent, Published
from headrace.trainers.definitions import Gate
from headrace.trainers.process.cancelled_runs import CancellableFits, CancelledRuns
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.messages import RunEnded
from headrace.trainers.runs.missing_evidence import NO_CHANCE
from headrace.trainers.runs.operator_requests import OperatorRequest
from headrace.trainers.runs.training_runner import RunOptions
from tests.support.control_topics import PREDICTIONS
from tests.support.orders_model import LIVE_FROM, Shop, day, fit, model, predictions, request, write

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from headrace.models.predictions import Prediction
    from headrace.trainers.runs.fit_task import FitResult, FitTask

pytestmark = pytest.mark.slow  # a second and more for its scenes

T1, T2 = day(LIVE_FROM), day(50)
PAYING = replace(model, gate=Gate("auc", holdout="14d", alpha=0.25, per="year"))


class CountedFits(InlineFits):
    """Counts the fits. The first ``fails`` of them that are to be published fail."""

    def __init__(self) -> None:
        self.challengers = self.refits = self.fails = 0

    def fit(self, task: FitTask) -> FitResult:
        self.challengers += task.is_tried
        self.refits += not task.is_tried
        if not task.is_tried and self.fails:
            self.fails -= 1
            raise MemoryError("too many rows")
        return super().fit(task)


@pytest.fixture
def fits() -> CountedFits:
    return CountedFits()


@pytest.fixture
def live(tmp_path: Path, fits: CountedFits) -> Shop:
    """Version 1 was published and has answered for twenty days."""
    shop = Shop(tmp_path, pool=fits)
    assert shop.runner().run(request("first", T1)).version == 1
    shop.serve(1)
    fits.challengers = fits.refits = 0
    return shop


def learns_the_opposite(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return fit(X, 1 - y, run)


def knows_little(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    """It knows the dearest orders."""
    del run
    return make_pipeline(Binarizer(threshold=1.3), LogisticRegression()).fit(X, y)


def never(*_: object) -> Any:
    raise AssertionError("a fit")


def untimed(end: RunEnded) -> RunEnded:
    return msgspec.structs.replace(end, seconds={})


def knowing(*ends: RunEnded) -> RunOptions:
    """A trainer that knows how these runs ended."""
    return RunOptions(ended=lambda: ends)


# -- one verdict ------------------------------------------------------------------------------------------------------


def test_a_run_whose_refusal_was_recorded_before_its_trainer_died_stays_refused(live: Shop) -> None:
    """The retake would pass: its code was corrected meanwhile. It is not fitted at all."""
    refused = live.runner(replace(model, train=learns_the_opposite)).run(request("second", T2))
    assert refused.outcome == "refused", refused.reason
    again = live.runner(replace(model, train=never)).run(request("second", T2))
    assert untimed(again) == untimed(refused)
    assert (live.state.version, live.state.void) == (1, ())
    assert live.runner().run(request("third", T2)).outcome == "published"


def test_a_run_that_passes_after_another_trainer_recorded_its_refusal_is_refused(live: Shop) -> None:
    other = live.runner(replace(model, train=learns_the_opposite))
    ends: list[RunEnded] = []

    def slow(*given: Any) -> Any:
        if not ends:
            ends.append(other.run(request("second", T2)))
        return fit(*given)

    late = live.runner(replace(model, train=slow)).run(request("second", T2))
    assert (ends[0].outcome, untimed(late)) == ("refused", untimed(ends[0]))
    assert live.state.version == 1


def test_a_run_that_was_published_before_its_trainer_died_ends_with_the_gate_and_the_days_of_then(live: Shop) -> None:
    first = live.runner().run(request("second", T2))
    again = live.runner(replace(model, train=never)).run(request("second", T2))
    assert (again.outcome, again.version, again.reason) == ("published", 2, "published before")
    assert (again.gate, again.holdout_days) == (first.gate, first.holdout_days)


# -- one look ---------------------------------------------------------------------------------------------------------


def away_once(live: Shop, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """The registry does not answer the next call of this method."""
    whole, calls = getattr(live.registry, method), iter([True])

    def answer(*given: Any) -> Any:
        if next(calls, False):
            raise RegistryUnavailableError("no answer")
        return whole(*given)

    monkeypatch.setattr(live.registry, method, answer)


@pytest.mark.parametrize("train", [fit, learns_the_opposite])
@pytest.mark.parametrize("method", ["record", "read"])
def test_a_run_that_waited_for_the_registry_ends_as_one_that_did_not(
    live: Shop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, train: Any, method: str
) -> None:
    """Its challenger is fitted once, judged once, and pays for one look."""
    asked = replace(PAYING, train=train)
    (tmp_path / "other").mkdir()
    calm = Shop(tmp_path / "other")
    calm.runner().run(request("first", T1))
    calm.serve(1)
    expected = calm.runner(asked).run(request("second", T2))
    assert expected.outcome == ("published" if train is fit else "refused"), expected.reason

    away_once(live, monkeypatch, method)
    runner = live.runner(asked)
    if train is fit or method == "record":  # a refused run has nothing to read
        with pytest.raises(RegistryUnavailableError):
            runner.run(request("second", T2))
    ended = runner.run(request("second", T2))
    assert untimed(ended) == untimed(expected)
    assert isinstance(live.pool, CountedFits)
    assert live.pool.challengers == 1


def test_a_run_that_is_cancelled_while_it_waits_for_the_registry_publishes_nothing(
    live: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, asked = CancelledRuns(), request("second", T2)
    live.pool = CancellableFits(live.pool, cancelled)
    runner = live.runner()
    away_once(live, monkeypatch, "record")
    with pytest.raises(RegistryUnavailableError):
        runner.run(asked)
    wish = OperatorRequest(
        id="c", model=asked.model, action="cancel", by="ann", reason="bad day", at_us=0, request_id=asked.request_id
    )
    cancelled.hear(wish)
    ended = runner.run(asked)
    assert (ended.outcome, ended.reason) == ("failed", "FitError: cancelled by ann: bad day")
    assert ended.holdout_days is not None
    assert live.state.version == 1


def test_another_request_does_not_go_on_where_one_waited(
    live: Shop, fits: CountedFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = live.runner()
    away_once(live, monkeypatch, "record")
    with pytest.raises(RegistryUnavailableError):
        runner.run(request("second", T2))
    ended = runner.run(request("third", T2))
    assert (ended.request_id, ended.outcome, fits.challengers) == ("returns-third", "published", 2)


def test_days_that_another_trainer_has_looked_at_are_not_looked_at_again(live: Shop, fits: CountedFits) -> None:
    """The runner was made before the other trainer's run ended. The budget is known to be spent before the fit."""
    ends: list[RunEnded] = []
    runner = live.runner(PAYING, options=RunOptions(ended=lambda: ends))
    ends.append(live.runner(replace(PAYING, train=learns_the_opposite)).run(request("second", T2)))
    assert ends[0].outcome == "refused"
    fits.challengers = 0
    ended = runner.run(request("third", T2))
    assert (ended.outcome, ended.holdout_days, fits.challengers) == ("postponed", None, 0)
    assert ended.reason == f"{NO_CHANCE}; it can be judged from 2024-11-24 00:00 UTC on"
    assert ended.again_us == day(51)
    assert runner.run(request("a-day-later", day(51))).outcome != "postponed"


def test_a_look_at_days_that_are_too_much_alike_is_taken_again_when_half_of_them_are_new(
    live: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No 14 days are worth 15 independent ones. The end is the same where the trainer died before it said so."""
    for module in ("metrics.serial_correlation", "runs.gate"):
        monkeypatch.setattr(f"headrace.trainers.{module}.LEAST_EFFECTIVE", 15)
    ended = live.runner(replace(model, train=knows_little)).run(request("second", T2))
    assert ended.outcome == "postponed"
    assert "its days are like their neighbours" in ended.reason
    assert ended.holdout_days == (20_000 + 35, 20_000 + 49)
    assert (ended.again_us, ended.against) == (day(49 + 7 + 1), live.state.live_id)
    assert untimed(live.runner().run(request("second", T2))) == untimed(ended)


def test_an_end_of_the_same_request_or_of_another_model_is_no_look_before_it(live: Shop) -> None:
    ended = live.runner(PAYING).run(request("second", T2))
    assert ended.gate is not None
    theirs = msgspec.structs.replace(ended, request_id="other", model="other")
    live.model_events = MemoryModelEventLog()
    live.registry._runs.clear()
    live.runner().run(request("first", T1))
    again = live.runner(PAYING, options=knowing(ended, theirs)).run(request("second", T2))
    assert again.gate == ended.gate


def test_a_run_that_failed_after_its_gate_has_looked(live: Shop, fits: CountedFits) -> None:
    fits.fails = 1
    failed = live.runner(PAYING).run(request("second", T2))
    assert (failed.outcome, failed.reason) == ("failed", "MemoryError: too many rows")
    assert failed.holdout_days == (20_000 + 35, 20_000 + 49)
    again = live.runner(PAYING, options=knowing(failed)).run(request("third", T2))
    assert (again.outcome, again.reason.startswith(NO_CHANCE)) == ("postponed", True)


def test_a_run_that_failed_before_its_gate_has_not_looked(live: Shop) -> None:
    failed = live.runner(replace(PAYING, train=never)).run(request("second", T2))
    assert (failed.outcome, failed.holdout_days) == ("failed", None)


class Raced(MemoryModelEventLog):
    """A log in which version 100 is published just before version 2, by somebody else."""

    def append(self, event: ModelEvent) -> int:
        if isinstance(event.data, Published) and event.data.version == 2 and len(self.read()) == 1:
            theirs = msgspec.structs.replace(event.data, version=100, request_id="theirs", trained_to_us=T1)
            super().append(ModelEvent(id="theirs", model=event.model, at_us=event.at_us, data=theirs))
        return super().append(event)


def answers_of(shop: Shop, version: int) -> Iterable[Prediction]:
    chosen = [each for each in shop.orders if int(each.ordered_at.timestamp() * 1e6) >= T1]
    return predictions(chosen, version, seed=version)


@pytest.mark.parametrize("per", ["look", "year"])
def test_a_second_champion_is_a_second_look_at_the_same_days(tmp_path: Path, per: Any) -> None:
    """Each look may cost its own chance, or there is one chance for these days, and it is spent."""
    shop = Shop(tmp_path, Raced())
    shop.runner().run(request("first", T1))
    shop.serve(1)
    write(shop.log, PREDICTIONS, [*answers_of(shop, 100)])
    asked = replace(model, gate=Gate("auc", holdout="14d", alpha=0.25, per=per))
    ended = shop.runner(asked).run(request("second", T2))
    assert ended.gate is not None
    assert ended.gate["looks_max"] == 2
    if per == "look":
        assert (ended.outcome, ended.version) == ("published", 2), ended.reason
    else:
        assert (ended.outcome, ended.reason) == ("postponed", NO_CHANCE)


def test_looks_are_counted_by_row(live: Shop) -> None:
    earlier = [
        msgspec.structs.replace(request_end(f"r{number}"), holdout_days=(20_000 + first, 20_000 + first + 14))
        for number, first in enumerate((21, 28, 28))
    ]
    ended = live.runner(options=knowing(*earlier)).run(request("second", T2))
    assert ended.gate is not None
    labelled = np.arange(35, 49)
    looks = np.sum([(first <= labelled) & (labelled < first + 14) for first in (21, 28, 28)], axis=0) + 1
    assert ended.gate["looks_max"] == looks.max() == 3
    assert ended.gate["looks_mean"] == pytest.approx(looks.mean())


def request_end(name: str) -> RunEnded:
    return RunEnded(request_id=name, model=model.name, outcome="refused", reason="", rule="", t_us=T1, matured_labels=0)
