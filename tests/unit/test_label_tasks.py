"""The task of a label, and what it asks of gate, rules and estimator."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from sklearn.linear_model import LinearRegression, LogisticRegression

from headrace.app.project.project import load_project
from headrace.app.project.settings import ProjectSettings
from headrace.app.project.settings_sources import load_settings
from headrace.errors import DefinitionError
from headrace.features.definitions.expression import col
from headrace.features.definitions.spec import to_document
from headrace.models.prediction_task import PredictionTask
from headrace.trainers.data.label_values import label_value, label_values, truths
from headrace.trainers.definitions import Gate, Label, Model, any_of, hysteresis, performance, volume
from headrace.trainers.metrics.expected_cost import expected_cost
from tests.support.documents import ROOT
from tests.support.parcels_model import CLASSES, GRADES, HOURS, PARTED, QUANTILES, RANGES


def label(**changes: Any) -> Label:
    return replace(HOURS.label, **changes)


@pytest.mark.parametrize(
    ("given", "task"),
    [
        ({"value": col("hours") > 9}, PredictionTask(name="binary")),
        ({"value": col("hours")}, PredictionTask(name="regression")),
        ({"value": col("parcel_id")}, PredictionTask(name="regression")),
        ({"value": col("hours"), "quantiles": [0.1, 0.9]}, PredictionTask(name="quantile", quantiles=(0.1, 0.9))),
        ({"value": col("grade"), "classes": CLASSES}, PredictionTask(name="classes", classes=tuple(CLASSES))),
        ({"value": col("parcel_id"), "classes": [2, 0, 1]}, PredictionTask(name="classes", classes=(2, 0, 1))),
        (
            {"value": col("hours"), "classes": [0, 1], "limits": [9]},
            PredictionTask(name="classes", classes=(0, 1)),
        ),
    ],
)
def test_the_task_follows_from_the_value_and_may_be_declared(given: dict[str, Any], task: PredictionTask) -> None:
    assert label(**given).predicts == task
    assert label(**given, task=task.name).predicts == task


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"value": col("grade")}, r"value is str; name its classes, such as classes=\['early', 'late'\]"),
        ({"value": col("grade"), "task": "regression"}, "value is str; for task='regression' it is int or float"),
        ({"value": col("hours") > 9, "task": "regression"}, "value is bool; for task='regression'"),
        ({"value": col("hours"), "task": "binary"}, "value is float; for task='binary' it is bool. A condition"),
        ({"value": col("hours"), "classes": [0, 1]}, "value is float; for task='classes' it is str or int"),
        ({"value": col("delivered_at")}, "value is datetime; for task='regression'"),
        ({"value": col("grade"), "task": "classes"}, r"task='classes' with classes=\[\]; write classes=\["),
        ({"value": col("hours"), "task": "quantile"}, r"task='quantile' with quantiles=\[\]; write quantiles=\["),
        ({"value": col("hours"), "task": "regression", "quantiles": [0.5]}, r"with quantiles=\[0.5\]; remove it"),
        ({"value": col("hours"), "task": "ranking"}, "task='ranking'; choose one of"),
        ({"value": col("grade"), "classes": ["quick"]}, "two or more different values"),
        ({"value": col("grade"), "classes": ["a", "b", "a"]}, "two or more different values"),
        ({"value": col("grade"), "classes": "quick"}, "two or more different values"),
        ({"value": col("grade"), "classes": [0, 1]}, "of a value that is str; write two or more"),
        ({"value": col("parcel_id"), "classes": [True, False]}, "of a value that is int; write two or more"),
        ({"value": col("hours"), "classes": CLASSES, "limits": [9]}, "write rising numbers, one between each two"),
        ({"value": col("hours"), "classes": CLASSES, "limits": [11, 9]}, "write rising numbers, one between each two"),
        ({"value": col("hours"), "quantiles": [0.9, 0.1]}, "write rising numbers between 0 and 1"),
        ({"value": col("hours"), "quantiles": [10, 90]}, "write rising numbers between 0 and 1"),
        ({"value": col("hours"), "missing": False}, "missing=False is for a label that is true or false"),
    ],
)
def test_a_label_that_does_not_fit_together_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=f"label on 'deliveries': .*{said}"):
        label(**given)


def test_a_spec_has_only_what_the_task_needs() -> None:
    late = to_document(label(value=col("hours") > 9).spec)
    assert set(late) == {"topic", "value", "on", "within_us", "missing"}
    assert to_document(HOURS.label.spec) == {**late, "value": col("hours").tree, "task": "regression"}
    of_limits = {"task": "classes", "classes": CLASSES, "limits": [9.0, 11.0]}
    assert to_document(PARTED.label.spec) == {**late, "value": col("hours").tree, **of_limits}
    of_quantiles = {"task": "quantile", "quantiles": QUANTILES}
    assert to_document(RANGES.label.spec) == {**late, "value": col("hours").tree, **of_quantiles}


def test_a_value_that_is_no_class_or_no_number_is_no_label() -> None:
    rows = pl.DataFrame({"grade": ["slow", "lost", None, "quick"], "hours": [9.0, 11.5, float("inf"), None]})

    def read(of: Model) -> list[Any]:
        return rows.select(label_value(of.label).alias("label")).to_series().to_list()

    assert read(GRADES) == ["slow", None, None, "quick"]
    assert read(HOURS) == [9.0, 11.5, None, None]
    assert read(PARTED) == ["quick", "slow", None, None]


def test_a_train_function_gets_the_classes_that_it_was_told_of() -> None:
    numbers = PredictionTask(name="classes", classes=(5, 3))
    truth = truths(pl.Series([3, 5, 5]), numbers)
    assert (truth.tolist(), label_values(truth, numbers).tolist()) == ([1, 0, 0], [3, 5, 5])
    names = truths(pl.Series(["slow", "quick"]), GRADES.label.predicts)
    assert label_values(names, GRADES.label.predicts).tolist() == ["slow", "quick"]


def test_a_gate_without_a_metric_has_that_of_the_task() -> None:
    late = replace(HOURS, label=label(value=col("hours") > 9), gate=Gate())
    found = [of.gate.spec.metric for of in (late, HOURS, GRADES, RANGES)]
    assert found == ["auc", "root_mean_squared_error", "macro_log_loss", "mean_pinball_loss"]
    assert replace(late, gate=Gate("auc")).version == late.version


@pytest.mark.parametrize(
    ("of", "metric", "task"),
    [(HOURS, "auc", "regression"), (GRADES, "rmse", "classes"), (RANGES, "mae", "quantile")],
)
def test_a_metric_of_another_task_is_refused_where_it_was_written(of: Model, metric: str, task: str) -> None:
    with pytest.raises(DefinitionError, match=rf"model 'parcels': gate: metric='.*' is for .*, and the task is {task}"):
        replace(of, gate=Gate(metric))
    rule = any_of(volume(labels=9), hysteresis(performance(metric, drop=0.1, name="slump")))
    with pytest.raises(DefinitionError, match=rf"model 'parcels': slump: metric=.* is for .*, and the task is {task}"):
        replace(of, triggers=rule)


def test_costs_are_for_as_many_classes_as_the_label_has() -> None:
    costs = expected_cost([[0, 1, 2], [1, 0, 1], [5, 3, 0]])
    assert replace(GRADES, gate=Gate(costs)).gate.decides_by == costs
    with pytest.raises(DefinitionError, match=r"has costs for 2 classes, and the label has 3: \['quick', "):
        replace(GRADES, gate=Gate(expected_cost([[0, 1], [25, 2]])))


def test_the_estimator_can_do_what_the_task_needs() -> None:
    assert replace(HOURS, train=None, estimator=LinearRegression()).spec.train.endswith("LinearRegression")
    with pytest.raises(DefinitionError, match="has no predict_proba; give a classifier"):
        replace(GRADES, train=None, estimator=LinearRegression())
    replace(GRADES, train=None, estimator=LogisticRegression())


def test_the_models_of_other_tasks_are_a_part_of_the_project_that_is_left_out_by_default() -> None:
    trainers = ProjectSettings(trainers=["trainers", "more_trainers"])
    found = load_project(load_settings({}, folder=ROOT).model_copy(update={"project": trainers})).models
    tasks = {name: model.label.predicts.name for name, model in found.items()}
    assert tasks == {
        "delay": "binary", "delay_class": "classes", "delay_minutes": "regression", "delay_range": "quantile",
    }  # fmt: skip
    page = (ROOT / "docs" / "how-to" / "other-tasks.md").read_text("utf-8")
    assert 'trainers = ["trainers", "more_trainers"]' in page
    assert "delay_class" not in load_project(load_settings({}, folder=ROOT)).models


def test_the_labels_of_the_page_have_the_tasks_that_it_says() -> None:
    page = (ROOT / "docs" / "how-to" / "other-tasks.md").read_text("utf-8")
    rows = re.findall(r"^\| .* \| `(value=.*)` \| `(\w+)` \|$", page, re.MULTILINE)
    assert len(rows) == 5
    grades = replace(HOURS.label, value=col("hours") > 1)  # has a text too
    for arguments, task in rows:
        written = arguments.replace("delay_minutes", "hours").replace('["good", "fair", "poor"]', str(CLASSES))
        assert replace(grades, **eval(f"dict({written})", {"col": col})).predicts.name == task
