from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.model_events import ModelEvent, Promoted, Published, RolledBack
from headrace.models.registry import CHALLENGER_FILE
from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.own_metric import own_metric
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


def rollback(at_us: int, number: int) -> ModelEvent:
    data = RolledBack(version=1, reason="worse", by="ann@desk")
    return ModelEvent(id=f"back-{number}", model=model.name, at_us=at_us, data=data)


def unpin_event(_: ModelEvent, number: int = 0) -> ModelEvent:
    data = RolledBack(version=1, reason="", pin=False)
    return ModelEvent(id=f"unpin-{number}", model=model.name, at_us=T2, data=data)


def promote(_: ModelEvent, version: int) -> ModelEvent:
    return ModelEvent(id="promoted", model=model.name, at_us=T2, data=Promoted(version=version, reason="better"))


def publication_of(shop: Shop) -> ModelEvent:
    """The publication of version 1, which now expects the live event."""
    event = shop.state.published(1)
    assert event is not None
    data = msgspec.structs.replace(event.data, expects=shop.state.live_id)
    return msgspec.structs.replace(event, data=data)


def never(*_: object) -> Any:
    raise AssertionError("a fit")


def kill(*_: object) -> None:
    raise KeyboardInterrupt


def away(*_: object) -> int:
    raise ConnectionError("the registry is away")


def test_a_log_that_does_not_answer_is_no_failed_run(live: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be a baseline, and ask for patience with a model that nothing is known of."""
    with monkeypatch.context() as away:
        away.setattr(EventLog, "table", unanswered)
        with pytest.raises(OfflineStoreUnavailableError):
            live.runner().run(request("second", T2))
    assert live.runner().run(request("second", T2)).outcome == "published"


def unanswered(*_: object) -> None:
    raise OfflineStoreUnavailableError("no answer")


def forget_gated_fits(shop: Shop) -> None:
    for file in (shop.folder / "registry").rglob(CHALLENGER_FILE):
        file.unlink()


def test_evidence_that_is_missing_is_known_before_the_fit(live: Shop) -> None:
    """The registry does not have the gated fits any more, so only live answers count."""
    forget_gated_fits(live)
    fits = [0]

    def counted(*given: Any) -> Any:
        fits[0] += 1
        return fit(*given)

    runner = live.runner(replace(model, train=counted))
    for at, days in ((37, 6), (41, 10), (44, 13), (44.9, 13)):
        ended = runner.run(request(f"on-{at}", day(at)))
        assert (ended.outcome, ended.gate, ended.holdout_days) == ("postponed", None, None)
        assert f"{days} of 14 days" in ended.reason
        assert "; it can be judged from 2024-11-18 00:00 UTC on" in ended.reason
        assert ended.again_us == day(45)
        assert ended.against == live.state.live_id
    assert fits == [0]
    assert runner.run(request("enough", day(45))).outcome == "published"
    assert fits == [2]
    forget_gated_fits(live)
    after = runner.run(request("too-soon", day(46)))
    assert (after.outcome, fits) == ("postponed", [2])
    assert "0 of 14 days" in after.reason
    assert after.again_us == day(60)


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


@pytest.mark.parametrize("lifts", [False, True])
def test_a_rollback_made_during_a_run_holds(live: Shop, *, lifts: bool) -> None:
    """Also over a run that was to end an earlier pin."""
    if lifts:
        live.model_events.append(rollback(T2, 0))
    contest(live, lambda _, number: rollback(T2, number + 1))
    asked = msgspec.structs.replace(request("second", T2), lifts="back-0") if lifts else request("second", T2)
    finished = live.runner().run(asked)
    assert (finished.outcome, finished.version) == ("postponed", None)
    assert finished.reason.startswith("void: it was judged against ")
    assert finished.reason.endswith("; version 1 was pinned by ann@desk at 2024-11-23 00:00 UTC: worse")
    assert (live.state.version, live.state.live_id, live.state.pinned) == (1, "back-1", True)
    assert [void.event.id for void in live.state.void] == ["returns-second-v2"]
    assert live.registry.champion(model.name) == 1


def test_a_promotion_made_during_a_run_holds(live: Shop) -> None:
    live.model_events.append(competitor(publication_of(live), 0))
    live.model_events.append(unpin_event(publication_of(live)))  # back to version 1
    contest(live, lambda event, _: promote(event, 100))
    finished = live.runner().run(request("second", T2))
    assert (finished.outcome, live.state.version) == ("postponed", 100)
    assert "version 100 was promoted" in finished.reason


def test_a_version_that_was_pinned_and_unpinned_meanwhile_is_the_champion_still(live: Shop) -> None:
    contest(live, lambda event, _: unpin_event(event))
    finished = live.runner().run(request("second", T2))
    assert (finished.outcome, finished.version) == ("published", 2), finished.reason
    assert finished.event_id == "returns-second-v2-2"
    assert live.state.live_id == finished.event_id
    assert live.registry.champion(model.name) == 2
    assert finished.gate is not None
    assert finished.gate["looks_max"] == 1  # the same champion, the same challenger, the same rows


def test_a_challenger_that_loses_every_race_gives_up_and_says_why(live: Shop) -> None:
    contest(live, unpin_event, times=9)
    finished = live.runner().run(request("second", T2))
    assert finished.outcome == "postponed"
    assert finished.reason.startswith("void 3 times, as others published meanwhile; at last: it was judged against")
    assert len(live.state.void) == 3
    assert live.state.version == 1


@pytest.mark.parametrize("lifts", [{}, {"lifts": "an earlier pin"}])
def test_a_request_that_is_taken_while_a_version_is_pinned_ends_without_a_fit(live: Shop, lifts: Any) -> None:
    live.model_events.append(rollback(T2, 0))
    finished = live.runner(replace(model, train=never)).run(msgspec.structs.replace(request("second", T2), **lifts))
    assert (finished.outcome, finished.version) == ("postponed", None)
    assert finished.reason == (
        "version 1 was pinned by ann@desk at 2024-11-23 00:00 UTC: worse; the request does not lift this pin"
    )
    assert (live.state.version, live.state.pinned, live.state.void) == (1, True, ())


def test_a_run_that_lifts_the_pin_is_published_over_it(live: Shop) -> None:
    live.model_events.append(rollback(T2, 0))
    finished = live.runner().run(msgspec.structs.replace(request("second", T2), lifts="back-0"))
    assert (finished.outcome, finished.version) == ("published", 2), finished.reason
    assert (live.state.version, live.state.pinned) == (2, False)


def test_an_alias_is_mended_after_a_trainer_was_killed_between_publication_and_alias(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as killed:
        killed.setattr(shop.registry, "promote", kill)
        with pytest.raises(KeyboardInterrupt):
            shop.runner().run(request("first", T1))
    assert (shop.state.version, shop.registry.champion(model.name)) == (1, None)
    again = shop.runner().run(request("first", T1))
    assert (again.outcome, again.version, again.reason) == ("published", 1, "published before")
    assert shop.registry.champion(model.name) == 1


def test_a_registry_that_is_away_after_the_publication_is_no_failed_run(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop.registry, "champion", away)
    finished = shop.runner().run(request("first", T1))
    assert (finished.outcome, finished.version) == ("published", 1), finished.reason


def test_a_version_that_needs_an_approval_waits_for_it(live: Shop) -> None:
    careful = replace(model, gate=replace(model.gate, approve="manual"))
    finished = live.runner(careful).run(request("second", T2))
    assert (finished.outcome, finished.version) == ("published", 2)
    assert finished.reason.endswith("; version 2 waits for `headrace models promote returns 2`")
    assert (live.state.version, live.registry.champion(model.name)) == (1, 1)
    assert live.state.waiting is not None
    assert (live.state.waiting.id, live.state.waiting.data.format) == (finished.event_id, 4)


def test_a_publication_has_the_time_of_the_clock_or_of_its_request(live: Shop) -> None:
    assert publication_of(live).at_us == T1
    live.runner(options=RunOptions(clock=lambda: T2 + 5)).run(request("second", T2))
    assert live.state.live is not None
    assert live.state.live.at_us == T2 + 5


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


def doubled(x: Any) -> Any:
    return x * 2


def with_a_function(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return make_pipeline(FunctionTransformer(doubled), fit(X, y, run)).fit(X, y)


def forgetful(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    del run
    return Forgetful().fit(X, y)


@pytest.mark.long
def test_a_version_that_no_application_could_load_is_a_failed_run(shop: Shop) -> None:
    shop.pool = FitPool()  # the word comes out of the child process
    finished = shop.runner(replace(model, train=with_a_function)).run(request("first", T1))
    assert finished.outcome == "failed"
    assert f"{__name__}.doubled" in finished.reason
    assert "trusted_types = [" in finished.reason
    assert "Traceback" not in finished.reason
    assert shop.state.live is None
    trusting = shop.runner(replace(model, train=with_a_function), options=RunOptions(trusted=[f"{__name__}.doubled"]))
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


@pytest.mark.parametrize("error", [OSError("no experiment"), RuntimeError("deleted")])
def test_a_failed_run_that_the_registry_refuses_ends_on_the_bus_alone(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(shop.registry, "record_failure", refuse)
    assert shop.runner(replace(model, train=talkative)).run(request("first", T1)).outcome == "failed"


def leaving(*_: object) -> Any:
    raise SystemExit(3)


def test_a_run_whose_code_leaves_the_process_has_failed(shop: Shop) -> None:
    finished = shop.runner(replace(model, gate=Gate(own_metric(leaving, higher_is_better=True)))).run(
        request("first", T1)
    )
    assert finished.outcome == "published"  # version 1 is judged by its log-loss
    shop.serve(1)
    later = shop.runner(replace(model, gate=Gate(own_metric(leaving, higher_is_better=True)))).run(
        request("second", day(50))
    )
    assert (later.outcome, later.reason) == ("failed", "SystemExit: 3")
