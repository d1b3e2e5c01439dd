"""Drift and performance of predictions that are numbers, classes or quantiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from headrace.trainers.metrics.named_metrics import metric_named
from headrace.trainers.triggers.evidence import DAY_US, Evidence, Outcomes, ServedScores
from headrace.trainers.triggers.rules import drift, performance
from headrace.trainers.triggers.trigger_state import TriggerState

if TYPE_CHECKING:
    from headrace.trainers.triggers.trigger_rule import RuleVerdict

FIRST_DAY, DAYS, ROWS = 20_000, 90, 400
RULE = drift("score", psi=0.2, sample="14d")


def days() -> np.ndarray:
    return np.repeat(np.arange(FIRST_DAY, FIRST_DAY + DAYS), ROWS)


def is_newest(day: np.ndarray) -> np.ndarray:
    return day >= FIRST_DAY + DAYS - 14


def judged(rule: object, evidence: Evidence) -> RuleVerdict:
    assert hasattr(rule, "measure")
    assert hasattr(rule, "judge")
    verdict: RuleVerdict = rule.judge(TriggerState(), evidence.t_us, rule.measure(evidence))[0]
    return verdict


def served(score: np.ndarray) -> Evidence:
    found = ServedScores(days(), score)
    return Evidence((FIRST_DAY + DAYS) * DAY_US, 60_000, scores=lambda: found)


def drifted(score: np.ndarray) -> RuleVerdict:
    return judged(RULE, served(score))


def column(shift: float, seed: int) -> np.ndarray:
    level = np.random.default_rng(seed).normal(size=DAYS * ROWS)
    found: np.ndarray = level + shift * is_newest(days())
    return found


def test_an_estimate_that_moves_is_drift() -> None:
    assert drifted(column(1.0, 0) * 60).fired
    assert not drifted(column(0.0, 0) * 60).fired


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_drift_of_several_classes_is_that_of_the_class_that_moves(moved: int) -> None:
    """The classes that stay as they are do not hide it."""
    columns = [column(1.0 if place == moved else 0.0, place) for place in range(3)]
    assert drifted(np.stack(columns, axis=1)).fired
    found, alone = RULE.measure(served(np.stack(columns, axis=1))), RULE.measure(served(columns[moved]))
    assert found["psi"] == alone["psi"]
    assert not drifted(np.stack([column(0.0, place) for place in range(3)], axis=1)).fired


def test_a_column_among_several_has_a_higher_threshold() -> None:
    """The chance of a false alarm is 1 % for all columns together, so each of them has less."""

    def threshold(score: np.ndarray) -> float:
        found: float = RULE.measure(served(score))["resampled"]
        return found

    one = column(0.0, 0)
    assert threshold(np.stack([one, one, one], axis=1)) > threshold(one)
    assert threshold(one[:, None]) == threshold(one)


def test_no_predictions_are_no_drift() -> None:
    found = ServedScores(np.zeros(0, np.int64), np.zeros((0, 3)))
    measured = RULE.measure(Evidence((FIRST_DAY + DAYS) * DAY_US, 60_000, scores=lambda: found))
    assert (measured["psi"], measured["reference_days"], measured["needed_days"]) == (None, 0, 42)


def outcomes(task: str, noise_after: float) -> Outcomes:
    """A live version that gets worse after its first 14 days."""
    generator, day = np.random.default_rng(2), days()
    truth = generator.normal(size=len(day))
    noise = np.where(day < FIRST_DAY + 14, 0.0, noise_after)
    estimate = truth + generator.normal(size=len(day)) * (0.3 + noise)
    if task == "regression":
        return Outcomes(day, estimate, truth)
    if task == "quantile":
        return Outcomes(day, estimate[:, None] + np.array([-1, 0, 1]), truth, (0.1, 0.5, 0.9))
    chances = np.exp(-((estimate[:, None] - np.array([-1.5, 0, 1.5])) ** 2))
    classes = np.digitize(truth, [-0.75, 0.75])
    return Outcomes(day, chances / chances.sum(axis=1, keepdims=True), classes)


@pytest.mark.parametrize(
    ("metric", "task"),
    [("rmse", "regression"), ("r2_score", "regression"), ("macro_log_loss", "classes"), ("accuracy_score", "classes"),
     ("mean_pinball_loss", "quantile")],
)  # fmt: skip
def test_performance_knows_the_metrics_of_every_task(metric: str, task: str) -> None:
    def decide(noise: float) -> RuleVerdict:
        found = outcomes(task, noise)
        evidence = Evidence((FIRST_DAY + DAYS) * DAY_US, 60_000, outcomes=lambda: found)
        return judged(performance(metric, drop=0.05), evidence)

    worse, same = decide(2.0), decide(0.0)
    assert worse.fired, worse.reason
    assert worse.reason.startswith(metric_named(metric).name)
    assert not same.fired, same.reason
