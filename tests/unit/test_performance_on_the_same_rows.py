"""The rule `performance` against another model on the same rows: the previous version, or a refit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace.errors import DefinitionError, FitError, NotMeasuredError
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.model_events import ModelEvent
from headrace.trainers.data.model_evidence import EvidenceSources, ModelEvidence
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.shadow_fit import shadow_fits
from headrace.trainers.triggers.evidence import DAY_US, Compared, Evidence, Outcomes, no_outcomes
from headrace.trainers.triggers.rules import performance
from headrace.trainers.triggers.trigger_state import TriggerState
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import LIVE_FROM, Shop, day, model, predictions, request, vector, write

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.triggers.evidence import Rival
    from headrace.trainers.triggers.trigger_rule import RuleInputs, RuleVerdict

FIRST, DAYS, ROWS = 20_000, 60, 400
RIVALS: list[Rival] = ["previous_version", "refit"]


def scored(noise: float, *, hard_first_days: bool = False, seed: int = 0) -> tuple[Outcomes, np.ndarray]:
    """Outcomes of a live version with noise, and what a model without it says of the same rows."""
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(DAYS), ROWS)
    spread = np.where(hard_first_days & (index < 14), 0.4, 1.5)
    logit = rng.normal(-1, 1, len(index)) * spread
    label = (rng.random(len(index)) < 1 / (1 + np.exp(-logit))).astype(np.int8)
    live = logit + rng.normal(0, 1, len(index)) * noise
    return Outcomes(FIRST + index, 1 / (1 + np.exp(-live)), label), 1 / (1 + np.exp(-logit))


def seen(outcomes: Outcomes, other: np.ndarray) -> Evidence:
    def compared(rival: Rival, from_day: int) -> Compared:
        chosen = outcomes.day >= from_day
        some = Outcomes(outcomes.day[chosen], outcomes.score[chosen], outcomes.label[chosen])
        return Compared(some, other[chosen], f"a {rival}")

    return Evidence((FIRST + DAYS) * DAY_US, 0, outcomes=lambda: outcomes, compared=compared)


def judged(rule: Any, evidence: Evidence) -> tuple[RuleInputs, RuleVerdict]:
    inputs = rule.measure(evidence)
    stored = msgspec.json.decode(msgspec.json.encode(inputs))
    (verdict,) = rule.judge(TriggerState(live=True), evidence.t_us, stored)
    return inputs, verdict


@pytest.mark.parametrize("rival", RIVALS)
def test_a_live_version_that_is_worse_on_the_same_rows_is_found(rival: Rival) -> None:
    inputs, verdict = judged(performance("auc", drop=0.01, against=rival), seen(*scored(1.0)))
    assert verdict.fired
    assert 0.01 < inputs["bound"] < inputs["lost"] == pytest.approx(inputs["reference"] - inputs["value"])
    assert f"for a {rival} on the same rows: surely worse by" in verdict.reason
    assert "in its first 14 live days" in verdict.reason


@pytest.mark.parametrize("metric", ["auc", "logloss"])
def test_an_equally_good_live_version_is_not(metric: str) -> None:
    outcomes, other = scored(0.0)
    inputs, verdict = judged(performance(metric, drop=0.001, against="refit"), seen(outcomes, other))
    assert (inputs["lost"], verdict.fired) == (0, False)


def test_a_decay_after_a_hard_season_is_found_on_the_same_rows_alone() -> None:
    """The first days were harder than the newest ones, so that the live version never looks worse than then."""
    evidence = seen(*scored(1.0, hard_first_days=True))
    first, against_first = judged(performance("auc", drop=0.01), evidence)
    assert first["value"] > first["reference"]
    assert not against_first.fired
    assert judged(performance("auc", drop=0.01, against="refit"), evidence)[1].fired


def test_a_harder_season_is_no_decay() -> None:
    outcomes, other = scored(0.0, hard_first_days=True)
    turned = replace(outcomes, day=FIRST + DAYS - 1 - (outcomes.day - FIRST))
    assert judged(performance("auc", drop=0.01), seen(turned, other))[1].fired
    assert not judged(performance("auc", drop=0.01, against="refit"), seen(turned, other))[1].fired


def test_false_alarms_are_rare_whatever_the_seed() -> None:
    rule, fired = performance("auc", drop=1e-9, against="refit"), 0
    for seed in range(40):
        outcomes, other = scored(0.5, seed=seed)
        also = scored(0.5, seed=seed)[1]
        rng = np.random.default_rng([1, seed])
        noisy = 1 / (1 + np.exp(-(np.log(also / (1 - also)) + 0.5 * rng.normal(size=len(other)))))
        fired += judged(rule, seen(outcomes, noisy))[1].fired
    assert fired <= 3


def test_numbers_of_another_comparison_are_not_judged() -> None:
    rules = [performance("auc", drop=0.01), *(performance("auc", drop=0.01, against=rival) for rival in RIVALS)]
    evidence = seen(*scored(1.0))
    for one in rules:
        for other in rules:
            if one is not other:
                with pytest.raises(NotMeasuredError, match="nothing was measured against"):
                    other.judge(TriggerState(live=True), evidence.t_us, one.measure(evidence))


def test_a_reason_says_what_is_lacking() -> None:
    rule = performance("auc", drop=0.01, against="refit")
    outcomes, _ = scored(1.0)

    def reason(**changes: Any) -> str:
        evidence = replace(Evidence((FIRST + DAYS) * DAY_US, 0, outcomes=lambda: outcomes), **changes)
        inputs, verdict = judged(rule, evidence)
        assert (verdict.fired, inputs["bound"]) == (False, None)
        return verdict.reason

    assert "this process loads no refit" in reason()
    away = Compared(no_outcomes(), np.zeros(0), lacking="the fit failed")
    assert reason(compared=lambda *_: away) == "the fit failed (0 of 14 days, 0 of 5,000 outcomes)"
    some = Outcomes(outcomes.day[:500], outcomes.score[:500], outcomes.label[:500])
    few = Compared(some, some.score, "v 1")
    assert "too few of its outcomes were predicted by v 1 too (2 of 14 days" in reason(compared=lambda *_: few)
    assert "0 of 14 days" in reason(outcomes=no_outcomes)


def test_the_least_evidence_is_a_setting_with_a_warning_below_what_was_measured() -> None:
    with pytest.warns(UserWarning, match="outcomes=1000.* is below 5,000"):
        rule = performance("auc", drop=0.01, outcomes=1_000)
    assert msgspec.to_builtins(rule.spec) == {"rule": "performance", "metric": "auc", "drop": 0.01, "outcomes": 1_000}
    assert msgspec.to_builtins(performance("auc", drop=0.01, days=28, against="refit").spec) == {
        "rule": "performance",
        "metric": "auc",
        "drop": 0.01,
        "against": "refit",
        "days": 28,
    }
    with pytest.raises(DefinitionError, match="7 or more"):
        performance("auc", drop=0.01, days=3)
    with pytest.raises(DefinitionError, match="'yesterday' is none of"):
        performance("auc", drop=0.01, against="yesterday")  # type: ignore[arg-type]


# -- from the log ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A shop whose second version, live from day 30 on, answers with noise. The first one knew better."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    ended = made.runner().run(request("first", day(LIVE_FROM)))
    first = made.state.published_live
    assert first is not None, ended.reason
    data = msgspec.structs.replace(first, version=2, request_id="second", expects=made.state.live_id)
    made.model_events.append(ModelEvent(id="second", model=model.name, at_us=day(LIVE_FROM), data=data))
    chosen = [order for order in made.orders if int(order.ordered_at.timestamp() * 1e6) >= day(LIVE_FROM)]
    logged = [msgspec.structs.replace(vector(o, 3.0), request=msgspec.json.encode(o).decode()) for o in chosen]
    write(made.log, VECTORS, logged)
    write(made.log, PREDICTIONS, predictions(chosen, 2, seed=2))
    return made


class Fitted:
    """Counts the fits of a refit, and the last day of their rows."""

    def __init__(self) -> None:
        self.until: list[float] = []
        self.fails = False
        self._fit = shadow_fits(InlineFits(), (), 1)

    def __call__(self, of: Any, examples: Any) -> Any:
        self.until.append((int(examples.requested_us.max()) - day(0)) / DAY_US)
        if self.fails:
            raise FitError("the fit failed")
        return self._fit(of, examples)


def rule_of(rival: Rival) -> Any:
    with pytest.warns(UserWarning, match="below 5,000"):
        return performance("auc", drop=0.05, against=rival, outcomes=2_000)


@pytest.mark.slow
@pytest.mark.parametrize("rival", RIVALS)
def test_a_version_that_knows_little_is_found_in_the_log(shop: Shop, rival: Rival) -> None:
    fitted = Fitted()
    evidence = ModelEvidence(model, shop.log, EvidenceSources(ArtifactPlaces([shop.folder]), fit=fitted))
    inputs, verdict = judged(rule_of(rival), evidence.evidence(day(60), shop.state))
    assert verdict.fired, verdict.reason
    assert inputs["reference"] > inputs["value"] + 0.1
    assert inputs["other"] == {"previous_version": "version 1", "refit": "a refit on rows before 2024-11-18"}[rival]
    assert (inputs["days"], inputs["outcomes"]) == (14, 14 * 150)


@pytest.mark.slow
def test_a_refit_is_made_once_a_week_from_rows_before_the_window(shop: Shop) -> None:
    fitted = Fitted()
    evidence = ModelEvidence(model, shop.log, EvidenceSources(ArtifactPlaces([shop.folder]), fit=fitted))
    rule = rule_of("refit")
    for hour in range(0, 12 * 24, 8):
        now = day(48) + hour * DAY_US // 24
        rule.measure(evidence.evidence(now, shop.state))
    assert len(fitted.until) == 2
    assert 6 < fitted.until[1] - fitted.until[0] < 8
    assert fitted.until[0] < 48 - 14 - 1 - 1 + 1  # within="1d" before the first day of the window


@pytest.mark.slow
def test_a_refit_that_fails_is_tried_again_on_the_next_day(shop: Shop) -> None:
    fitted, rule = Fitted(), rule_of("refit")
    fitted.fails = True
    evidence = ModelEvidence(model, shop.log, EvidenceSources(ArtifactPlaces([shop.folder]), fit=fitted))
    for _ in range(3):
        inputs, verdict = judged(rule, evidence.evidence(day(50), shop.state))
        assert "the fit failed" in verdict.reason
    assert len(fitted.until) == 1
    fitted.fails = False
    inputs, _ = judged(rule, evidence.evidence(day(51), shop.state))
    assert (len(fitted.until), inputs["value"] is not None) == (2, True)


@pytest.mark.slow
def test_a_first_version_has_no_previous_one(shop: Shop, tmp_path: Path) -> None:
    state = replace(shop.state, live=shop.state.published(1), history=shop.state.history[:1])
    evidence = ModelEvidence(model, shop.log, EvidenceSources(ArtifactPlaces([tmp_path])))
    found = evidence.evidence(day(60), state).compared
    assert found is not None
    assert found("previous_version", 0).lacking == "there is no version before the live one to compare with"
    assert found("refit", 0).lacking == "this process makes no refits to compare with"
