from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.model_events import ModelEvent, Published, RolledBack
from headrace.trainers.runs.fitting import FitPool
from headrace.trainers.runs.training_runner import RunOptions
from tests.support.orders_model import LIVE_FROM, Shop, day, fit, model, request

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow  # a second and more for its scenes

T1, T2 = day(LIVE_FROM), day(50)


class Contested(MemoryModelEventLog):
    """A log in which somebody else writes just before this trainer does, the first ``times`` times."""

    other: Callable[[ModelEvent, int], ModelEvent]

    def __init__(self) -> None:
        super().__init__()
        self.times = 0

    def append(self, event: ModelEvent) -> int:
        if self.times:
            self.times -= 1
            super().append(self.other(event, self.times))
        return super().append(event)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path, Contested())


@pytest.fixture
def live(shop: Shop) -> Shop:
    """Version 1 was published and has answered for twenty days."""
    first = shop.runner().run(request("first", T1))
    assert (first.outcome, first.version) == ("published", 1), first.reason
    shop.serve(1)
    return shop


def contest(shop: Shop, other: Callable[[ModelEvent, int], ModelEvent], *, times: int = 1) -> None:
    assert isinstance(shop.model_events, Contested)
    shop.model_events.other, shop.model_events.times = other, times


def competitor(event: ModelEvent, number: int) -> ModelEvent:
    """A publication of somebody else, judged against what is live now."""
    assert isinstance(event.data, Published)
    data = msgspec.structs.replace(event.data, version=100 + number, request_id=f"theirs-{number}", trained_to_us=T2)
    return ModelEvent(id=f"theirs-{number}", model=event.model, at_us=event.at_us, data=data)


def rollback(_: ModelEvent, number: int) -> ModelEvent:
    return ModelEvent(id=f"back-{number}", model=model.name, at_us=T2, data=RolledBack(version=1, reason="worse"))


def test_a_log_that_does_not_answer_is_no_failed_run(live: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a baseline, and ask for patience with a model that nothing is known of."""
    with monkeypatch.context() as away:
        away.setattr(EventLog, "table", unanswered)
        with pytest.raises(OfflineStoreUnavailableError):
            live.runner().run(request("second", T2))
    assert live.runner().run(request("second", T2)).outcome == "published"


def unanswered(*_: object) -> None:
    raise OfflineStoreUnavailableError("no answer")


def test_a_better_challenger_is_published(live: Shop) -> None:
    finished = live.runner().run(request("second", T2))
    assert (finished.outcome, finished.version, finished.event_id) == ("published", 2, "returns-second-v2")
    assert live.state.void == ()


def test_a_challenger_that_lost_the_race_is_judged_against_the_new_champion(live: Shop) -> None:
    """The new champion has answered nothing yet: there is nothing to compare with."""
    contest(live, competitor)
    finished = live.runner().run(request("second", T2))
    assert finished.outcome == "postponed", finished.reason
    assert "not enough evidence" in finished.reason
    assert finished.gate is not None
    assert finished.gate["rows"] == 0
    assert (live.state.version, [void.event.id for void in live.state.void]) == (100, ["returns-second-v2"])


def test_a_challenger_that_beats_the_new_champion_too_is_published(live: Shop) -> None:
    """Somebody rolled back to version 1 meanwhile, which has answered for twenty days."""
    contest(live, rollback)
    finished = live.runner().run(request("second", T2))
    assert (finished.outcome, finished.version) == ("published", 2), finished.reason
    assert finished.event_id == "returns-second-v2-2"
    assert live.state.live_id == finished.event_id
    assert live.registry.champion(model.name) == 2
    assert finished.gate is not None
    assert finished.gate["looks_max"] == 2


def test_a_challenger_that_loses_every_race_gives_up_and_says_why(live: Shop) -> None:
    contest(live, rollback, times=9)
    finished = live.runner().run(request("second", T2))
    assert finished.outcome == "postponed"
    assert finished.reason.startswith("void 3 times, as others published meanwhile; at last: it was judged against")
    assert len(live.state.void) == 3
    assert live.state.version == 1


def test_somebody_else_answered_the_same_request(live: Shop) -> None:
    contest(live, lambda event, _: msgspec.structs.replace(event, id="theirs"))
    finished = live.runner().run(request("second", T2))
    assert (finished.outcome, finished.version, finished.event_id) == ("published", 2, "theirs")


def test_a_publication_that_would_be_void_again_fails_at_once(live: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version number that is taken stays taken."""
    monkeypatch.setattr(live.registry, "_next_version", lambda _: 1)
    finished = live.runner().run(request("second", T2))
    assert (finished.outcome, finished.reason) == ("failed", "void: version 1 exists")
    assert len(live.state.void) == 1


class Forgetful(BaseEstimator):  # type: ignore[misc]
    """What it predicts by is not stored."""

    def fit(self, X: Any, y: Any) -> Forgetful:  # noqa: N803
        self.rate_ = float(np.mean(y))
        self.classes_ = np.array([0, 1])
        return self

    def __getstate__(self) -> dict[str, Any]:
        return {"rate_": 0.0, "classes_": self.classes_}

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        return np.tile([1 - self.rate_, self.rate_], (len(X), 1))


def with_imputer(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return make_pipeline(SimpleImputer(), fit(X, y, run)).fit(X, y)


def forgetful(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    del run
    return Forgetful().fit(X, y)


def test_a_version_that_no_application_could_load_is_a_failed_run(shop: Shop) -> None:
    shop.pool = FitPool()  # the word comes out of the child process
    finished = shop.runner(replace(model, train=with_imputer)).run(request("first", T1))
    assert finished.outcome == "failed"
    assert "numpy.dtype" in finished.reason
    assert "`trusted_types`" in finished.reason
    assert "Traceback" not in finished.reason
    assert shop.state.live is None
    trusting = shop.runner(replace(model, train=with_imputer), options=RunOptions(trusted=["numpy.dtype"]))
    assert trusting.run(request("again", T1)).outcome == "published"


def test_a_version_that_predicts_otherwise_once_loaded_is_a_failed_run(shop: Shop) -> None:
    runner = shop.runner(replace(model, train=forgetful), options=RunOptions(trusted=[f"{__name__}.Forgetful"]))
    finished = runner.run(request("first", T1))
    assert finished.outcome == "failed"
    assert "Forgetful gives other predictions after it was stored and loaded" in finished.reason


def talkative(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    raise ValueError(f"{run.model} has no use for {X.to_dict()} and {y.tolist()}")


@pytest.mark.parametrize("where", ["inline", pytest.param("child", marks=pytest.mark.slow)])
def test_the_reason_of_a_failed_run_has_a_bound(shop: Shop, where: str) -> None:
    shop.pool = FitPool() if where == "child" else shop.pool
    finished = shop.runner(replace(model, train=talkative)).run(request("first", T1))
    assert finished.outcome == "failed"
    assert "has no use for" in finished.reason
    assert "characters are left out" in finished.reason
    assert len(finished.reason) < 2_100
