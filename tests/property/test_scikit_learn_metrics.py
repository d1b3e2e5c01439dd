"""Every metric is scikit-learn's, for rows with sample weights and ties, under any weights of their blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.expected_cost import expected_cost
from headrace.trainers.metrics.named_metrics import METRICS, metric_named, within_block
from tests.support.example_budget import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.trainers.metrics.metric import Metric

    Reference = Callable[[np.ndarray, np.ndarray, np.ndarray], float]

BLOCKS = 4
COSTS = np.array([[0.0, 1.0], [25.0, 2.0]])
chances = st.integers(1, 19).map(lambda twentieths: twentieths / 20)  # few values: there are ties
numbers = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e3, 1e3).filter(lambda x: abs(x) > 1e-6))
weights = st.one_of(st.integers(0, 3).map(float), st.floats(0.1, 3.0))
of_blocks = st.lists(weights, min_size=BLOCKS, max_size=BLOCKS).map(np.array)


def named(chance: np.ndarray) -> np.ndarray:
    return (chance > 0.5).astype(int)


def calibration_error(truth: np.ndarray, chance: np.ndarray, weight: np.ndarray) -> float:
    """The mean of the gaps in scikit-learn's calibration curve, for rows repeated by whole weights."""
    found, error = np.ceil(chance * 10 - 1e-9).clip(1, 10), 0.0
    for each in np.unique(found):
        own = (found == each) & (weight > 0)
        if own.any():
            gap = np.average(truth[own], weights=weight[own]) - np.average(chance[own], weights=weight[own])
            error += abs(gap) * weight[own].sum() / weight.sum()
    return error


def cost(truth: np.ndarray, chance: np.ndarray, weight: np.ndarray) -> float:
    decided = [int(c @ COSTS[:, 1] < c @ COSTS[:, 0]) for c in np.stack([1 - chance, chance], 1)]
    table = sklearn.confusion_matrix(truth, decided, sample_weight=weight, labels=[0, 1])
    return float((table * COSTS).sum() / weight.sum())


BINARY: dict[str, tuple[Metric, Reference]] = {
    "auc": (metric_named("auc"), lambda y, p, w: sklearn.roc_auc_score(y, p, sample_weight=w)),
    "logloss": (metric_named("logloss"), lambda y, p, w: sklearn.log_loss(y, p, sample_weight=w, labels=[0, 1])),
    "brier_score_loss": (
        metric_named("brier_score_loss"),
        lambda y, p, w: sklearn.brier_score_loss(y, p, sample_weight=w),
    ),
    "accuracy_score": (
        metric_named("accuracy_score"),
        lambda y, p, w: sklearn.accuracy_score(y, named(p), sample_weight=w),
    ),
    "f1_score": (metric_named("f1_score"), lambda y, p, w: sklearn.f1_score(y, named(p), sample_weight=w)),
    "expected_calibration_error": (metric_named("expected_calibration_error"), calibration_error),
    "expected_cost": (expected_cost(COSTS.tolist()), cost),
}


def of_scikit_learn(name: str) -> Reference:
    return lambda y, p, w: float(getattr(sklearn, name)(y, p, sample_weight=w))


REGRESSION: dict[str, tuple[Metric, Reference]] = {
    name: (metric_named(name), of_scikit_learn(name))
    for name in (
        "mean_absolute_error", "root_mean_squared_error", "mean_absolute_percentage_error", "r2_score",
        "mean_pinball_loss",
    )
}  # fmt: skip


def rows_of(truth: Any, prediction: Any) -> Any:
    row = st.tuples(st.integers(0, BLOCKS - 1), truth, prediction, weights)
    return st.lists(row, min_size=3, max_size=40).map(lambda rows: [np.array(part) for part in zip(*rows, strict=True)])


def check(
    metric: Metric,
    reference: Reference,
    rows: list[np.ndarray],
    by_block: np.ndarray,
    quantiles: tuple[float, ...] = (0.5,),
) -> None:
    block, truth, prediction, weight = rows
    total = weight * by_block[block]
    assume((total > 0).any())
    rows_by_block = BlockRows(block, truth, prediction, weight, quantiles=quantiles)
    found = metric.statistic(rows_by_block).value(by_block[rows_by_block.blocks][None])[0]
    assert found == pytest.approx(reference(truth, prediction, total), rel=1e-12, abs=1e-12)


def test_no_metric_is_without_a_reference() -> None:
    known = {*BINARY, *REGRESSION, "macro_log_loss"} - {"expected_cost"}
    assert set(METRICS) == known


@pytest.mark.parametrize("name", BINARY)
@given(rows=rows_of(st.integers(0, 1), chances), by_block=of_blocks)
@settings(max_examples=examples(60), deadline=None)
def test_a_metric_of_two_classes_is_scikit_learns(name: str, rows: list[np.ndarray], by_block: np.ndarray) -> None:
    truth, total = rows[1], rows[3] * by_block[rows[0]]
    both_classes = len(np.unique(truth[total > 0])) == 2
    named_or_true = ((named(rows[2]) + truth) * total > 0).any()
    assume({"auc": both_classes, "f1_score": named_or_true}.get(name, True))
    check(*BINARY[name], rows, by_block)


@pytest.mark.parametrize("name", REGRESSION)
@given(rows=rows_of(numbers, numbers), by_block=of_blocks)
@settings(max_examples=examples(60), deadline=None)
def test_a_metric_of_numbers_is_scikit_learns(name: str, rows: list[np.ndarray], by_block: np.ndarray) -> None:
    if name == "r2_score":
        rows[1] /= 100  # far from 0 the sums of squares lose digits
    spread = rows[1][rows[3] * by_block[rows[0]] > 0]
    assume(name != "r2_score" or (len(spread) > 1 and np.ptp(spread) > 1))
    check(*REGRESSION[name], rows, by_block)


@given(rows=rows_of(st.integers(0, 2), st.tuples(chances, chances, chances)), by_block=of_blocks)
@settings(max_examples=examples(60), deadline=None)
def test_macro_log_loss_is_the_log_loss_with_balanced_classes(rows: list[np.ndarray], by_block: np.ndarray) -> None:
    def balanced(truth: np.ndarray, chance: np.ndarray, weight: np.ndarray) -> float:
        of_class = np.bincount(truth, weight, 3)[truth]
        even = np.divide(weight, of_class, out=np.zeros(len(weight)), where=of_class > 0)
        return float(sklearn.log_loss(truth, chance, sample_weight=even, labels=[0, 1, 2]))

    rows[2] = rows[2] / rows[2].sum(axis=1, keepdims=True)
    check(metric_named("macro_log_loss"), balanced, rows, by_block)
    check(
        metric_named("logloss"),
        lambda y, p, w: sklearn.log_loss(y, p, sample_weight=w, labels=[0, 1, 2]),
        rows,
        by_block,
    )
    check(
        metric_named("accuracy_score"),
        lambda y, p, w: sklearn.accuracy_score(y, p.argmax(1), sample_weight=w),
        rows,
        by_block,
    )


@given(rows=rows_of(numbers, st.tuples(numbers, numbers, numbers)), by_block=of_blocks)
@settings(max_examples=examples(60), deadline=None)
def test_the_pinball_loss_of_several_quantiles_is_their_mean(rows: list[np.ndarray], by_block: np.ndarray) -> None:
    def mean(truth: np.ndarray, found: np.ndarray, weight: np.ndarray) -> float:
        levels = enumerate((0.1, 0.5, 0.9))
        losses = [sklearn.mean_pinball_loss(truth, found[:, n], sample_weight=weight, alpha=q) for n, q in levels]
        return float(np.mean(losses))

    check(metric_named("mean_pinball_loss"), mean, rows, by_block, (0.1, 0.5, 0.9))


@given(rows=rows_of(st.integers(0, 1), chances), by_block=of_blocks)
@settings(max_examples=examples(60), deadline=None)
def test_a_mean_within_blocks_is_that_of_the_metric_of_each_block(rows: list[np.ndarray], by_block: np.ndarray) -> None:
    def mean_within(truth: np.ndarray, chance: np.ndarray, total: np.ndarray) -> float:
        found, mass = [], []
        for each in np.unique(rows[0][total > 0]):
            own, weight = rows[0] == each, rows[3]
            positives, negatives = weight[own] @ (truth[own] == 1), weight[own] @ (truth[own] == 0)
            if positives * negatives:
                found.append(sklearn.roc_auc_score(truth[own], chance[own], sample_weight=weight[own]))
                mass.append(positives * negatives * by_block[each])
        assume(found)
        return float(np.average(found, weights=mass))

    check(within_block("auc"), mean_within, rows, by_block)
    pooled = BINARY["brier_score_loss"][1]
    check(within_block("brier_score_loss"), pooled, rows, by_block)
