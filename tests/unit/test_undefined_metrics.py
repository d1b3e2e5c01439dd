"""A metric that is not defined decides nothing, and is found out before the fit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.models.prediction_task import PredictionTask
from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.intervals import block_weights, resampled_interval
from headrace.trainers.metrics.named_metrics import within_block
from headrace.trainers.metrics.own_metric import own_metric
from headrace.trainers.runs.gate import GateReport, JudgedRows, KnownRates, judge, judge_first
from headrace.trainers.runs.look_budget import LookCost
from tests.support.orders_model import LIVE_FROM, Shop, day, fit, model, request
from tests.support.registry_runs import PASSED

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.metrics.metric import Metric

DRAWS, MOST_UNDEFINED = 2_000, 49
NAN = float("nan")


def drawn(seed: int, undefined: int, value: float) -> np.ndarray:
    draws = np.random.default_rng(seed).normal(size=DRAWS)
    draws[np.random.default_rng(seed + 1).choice(DRAWS, undefined, replace=False)] = value
    return draws


@given(st.integers(0, 99), st.integers(0, MOST_UNDEFINED), st.floats(-1e6, 1e6))
def test_bounds_hold_whatever_the_metric_would_be_in_resamples_where_it_is_not_defined(
    seed: int, undefined: int, value: float
) -> None:
    found = resampled_interval(0.0, drawn(seed, undefined, NAN), 14)
    filled = resampled_interval(0.0, drawn(seed, undefined, value), 14)
    assert (found.undefined, found.is_defined, filled.undefined) == (undefined, True, 0)
    assert found.low <= filled.low < filled.high <= found.high


def test_more_undefined_resamples_than_the_tail_of_a_bound_has_give_no_bounds() -> None:
    found = resampled_interval(0.0, drawn(1, MOST_UNDEFINED + 1, NAN), 14)
    assert (found.undefined, found.is_defined) == (MOST_UNDEFINED + 1, False)
    assert np.isnan([found.low, found.high, found.lower_bound(0.001, 14)]).all()


def rows(positive_days: int) -> tuple[JudgedRows, np.ndarray]:
    """14 days of 200 rows, in half of which the label is true on the first days; and the scores of a champion."""
    generator = np.random.default_rng(3)
    on = np.repeat(np.arange(14), 200)
    label = (np.arange(len(on)) % 2 * (on < positive_days)).astype(np.int8)
    good, poor = (np.clip(label * 0.5 + generator.uniform(0, width, len(on)), 0, 1) for width in (0.6, 2.0))
    return JudgedRows(on, label, good), poor


def test_a_metric_that_many_resamples_do_not_define_postpones_and_says_how_many() -> None:
    """All positives are of one day: the AUC is not defined in the resamples without it."""
    judged, champion = rows(positive_days=1)
    without = int((block_weights(14, DRAWS, seed=5)[:, 0] == 0).sum())
    report = judge(judged, champion, seed=5)
    assert (report.verdict, {*report.metrics}) == ("postponed", {"logloss"})
    assert report.reason == (
        f"not enough evidence in the holdout: auc is not defined in {without} of 2,000 resamples of the holdout"
    )
    assert 600 < without < 800
    assert judge(judged, champion, Gate("logloss"), seed=5).verdict == "passed"
    assert judge(rows(positive_days=14)[0], rows(positive_days=14)[1], seed=5).verdict == "passed"


def test_a_look_that_may_cost_little_tolerates_few_undefined_resamples() -> None:
    """A metric that is not defined where the first day is drawn five times or more: in 0.2 % of the resamples."""
    judged, champion = rows(positive_days=14)
    marked = replace(judged, score=np.where(np.arange(len(champion)) == 0, 0.25, judged.score))
    champion[0] = 0.25
    assert ((marked.score == 0.25).sum(), (champion == 0.25).sum()) == (1, 1)

    def error(truth: Any, prediction: Any) -> float:
        return NAN if (prediction == 0.25).sum() >= 5 else float(((truth - prediction) ** 2).mean())

    gate = Gate(own_metric(error, higher_is_better=False), alpha=0.05, per="year")
    without = int((block_weights(14, DRAWS, seed=5)[:, 0] >= 5).sum())
    assert 2 < without < 20
    assert judge(marked, champion, gate, cost=LookCost(0.025, 180), seed=5).verdict == "passed"
    strict = judge(marked, champion, gate, cost=LookCost(0.001, 7), seed=5)
    assert (strict.verdict, strict.reason) == (
        "postponed",
        f"not enough evidence in the holdout: error is not defined in {without} of 2,000 resamples of the holdout",
    )
    assert replace(PASSED, gate=msgspec.to_builtins(strict)).gate_json()


@pytest.mark.parametrize("correlation", ["ignored", "measured"])
@pytest.mark.parametrize("alpha", [0.025, 0.05])
def test_the_report_of_a_metric_that_is_never_defined_is_json(correlation: Any, alpha: float) -> None:
    judged, champion = rows(positive_days=14)
    never = own_metric(lambda *_: NAN, higher_is_better=True, name="never")
    report = judge(judged, champion, Gate(never, serial_correlation=correlation, alpha=alpha))
    assert (report.verdict, {*report.metrics}) == ("postponed", {"auc", "logloss"})
    assert report.reason == "not enough evidence in the holdout: never is not defined on it"
    assert msgspec.json.decode(msgspec.json.encode(report), type=GateReport) == report
    assert replace(PASSED, gate=msgspec.to_builtins(report)).gate_json()


def test_a_first_version_whose_metric_is_not_defined_is_postponed() -> None:
    """The squares of these labels are larger than a number can be."""
    on, generator = np.repeat(np.arange(14), 200), np.random.default_rng(3)
    label = generator.normal(size=len(on)) * 1e200
    judged = JudgedRows(on, label, label * 0.9, task=PredictionTask(name="regression"))
    with np.errstate(over="ignore"):
        report = judge_first(judged, KnownRates(0.0, 0.0))
    assert (report.verdict, report.metrics) == ("postponed", {})
    assert report.reason == "not enough evidence in the holdout: root_mean_squared_error is not defined on it"
    assert replace(PASSED, gate=msgspec.to_builtins(report)).gate_json()


# -- in a run ---------------------------------------------------------------------------------------------------------


@dataclass
class Error:
    """A metric without a hash: a dataclass that may change has none."""

    power: int

    def __call__(self, truth: Any, prediction: Any) -> float:
        return float((np.abs(truth - prediction) ** self.power).mean())


def raising(truth: Any, prediction: Any) -> float:
    raise ZeroDivisionError(f"{len(truth)} and {len(prediction)}")


@pytest.fixture
def live(tmp_path: Path) -> Shop:
    """Version 1 was published and has answered for twenty days."""
    shop = Shop(tmp_path)
    assert shop.runner().run(request("first", day(LIVE_FROM))).version == 1
    shop.serve(1)
    return shop


def never_fits(*_: object) -> Any:
    raise AssertionError("a fit")


def of_metric(metric: Metric, train: Any = fit) -> Any:
    return replace(model, train=train, gate=Gate(metric, holdout="14d"))


@pytest.mark.slow
def test_a_metric_without_a_hash_decides(live: Shop) -> None:
    metric = own_metric(Error(2), higher_is_better=False, name="squares")
    with pytest.raises(TypeError):
        hash(metric)
    ended = live.runner(of_metric(metric)).run(request("second", day(50)))
    assert (ended.outcome, ended.version) == ("published", 2), ended.reason


@pytest.mark.slow
@pytest.mark.parametrize("within", [False, True])
def test_a_metric_that_raises_fails_its_run_before_the_fit(live: Shop, *, within: bool) -> None:
    metric = own_metric(raising, higher_is_better=True)
    asked = of_metric(within_block(metric) if within else metric, never_fits)
    ended = live.runner(asked).run(request("second", day(50)))
    assert ended.outcome == "failed"
    assert ended.reason.startswith("DefinitionError: own_metric 'raising' raised ZeroDivisionError: ")
    assert ended.reason.endswith("; let it return a number, and NaN where it is not defined")


@pytest.mark.slow
@pytest.mark.parametrize("value", [NAN, "high"])
def test_a_metric_that_returns_no_number_is_found_out_before_the_fit(live: Shop, value: Any) -> None:
    metric = own_metric(lambda *_: value, higher_is_better=True, name="odd")
    ended = live.runner(of_metric(metric, never_fits)).run(request("second", day(50)))
    if value == "high":
        assert ended.outcome == "failed"
        assert "own_metric 'odd' raised ValueError: could not convert string to float: 'high'" in ended.reason
    else:
        assert (ended.outcome, ended.holdout_days) == ("postponed", None)
        assert ended.reason == "not enough evidence in the holdout: odd is not defined on it"
