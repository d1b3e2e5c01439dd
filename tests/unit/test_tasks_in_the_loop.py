"""From label to publication for every task: fit, gate, predictions, evidence for the rules, and the same fit again."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace.app.commands.predictions import score_text
from headrace.app.past_predictions import PastPredictions
from headrace.errors import TerminalError
from headrace.models import artifact, manifest
from headrace.models.artifact_places import ArtifactPlaces
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.data.request_rows import RequestRows
from headrace.trainers.definitions import Gate, Model, any_of, drift, performance, volume
from headrace.trainers.metrics.expected_cost import expected_cost
from headrace.trainers.metrics.named_metrics import metric_named
from headrace.trainers.metrics.own_metric import own_metric
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.fitting import InlineFits
from headrace.trainers.runs.messages import DecisionRecord, decode
from headrace.trainers.runs.reproduce import Reproducer
from headrace.trainers.triggers.performance_rule import PerformanceRule
from tests.support.control_topics import DECISIONS
from tests.support.orders_model import day
from tests.support.parcels_model import CLASSES, GRADES, HOURS, PARTED, RANGES, Parcels, made

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.trainers.gate_definition import SerialRule
    from headrace.trainers.runs.messages import RunEnded

pytestmark = pytest.mark.slow  # a second and more for its scenes

T1, T2 = day(30), day(50)
EVERY: dict[str, Model] = {"regression": HOURS, "classes": GRADES, "limits": PARTED, "quantile": RANGES}


def worst(truth: np.ndarray, prediction: np.ndarray) -> float:
    return float(np.quantile(np.abs(truth - prediction), 0.9))


class Scenes:
    """Scenes in which version 1 is live and has answered for thirty days; each is made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, tuple[Parcels, RunEnded]] = {}

    def of(self, model: Model, *, knows_nothing: bool = False) -> tuple[Parcels, RunEnded]:
        """The scene and the end of its first run. What the scene publishes from now on is its own."""
        label = replace(model, gate=Gate()).version
        name = f"{label}-{knows_nothing}"
        if name not in self._made:
            scene = Parcels(self._folder / name, model)
            first = scene.run("first", T1)
            assert (first.outcome, first.version) == ("published", 1), first.reason
            scene.serve(knows_nothing=knows_nothing)
            self._made[name] = scene, first
        scene, first = self._made[name]
        return scene.again(model), first


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Scenes:
    return Scenes(tmp_path_factory.mktemp("scenes"))


@pytest.mark.parametrize("name", EVERY)
def test_a_first_version_beats_the_constants_of_its_task(name: str, scenes: Scenes) -> None:
    model = EVERY[name]
    scene, ended = scenes.of(model)
    published, report = scene.published(), ended.gate
    assert (published.predicts, published.format) == (model.label.predicts, 5)
    assert report is not None
    known = {"regression": "mean", "quantile": "quantiles"}.get(name, "rates")
    assert set(report["metrics"]) == {
        f"{report['metric']} against the {which} {known}" for which in ("label", "last period's")
    }
    assert all(each["gain_low"] > 0 for each in report["metrics"].values())
    assert "positives" not in report
    assert ("of_class" in report) == bool(model.label.predicts.classes)


def test_a_first_version_that_is_worse_than_a_constant_is_refused(tmp_path: Path) -> None:
    def fit(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
        return HOURS.train_function(X, 2 * y.mean() - y, run)

    ended = Parcels(tmp_path, replace(HOURS, train=fit)).run("first", T1)
    assert ended.outcome == "refused"
    assert "root_mean_squared_error against the " in ended.reason


GATES: dict[str, tuple[Model, Any]] = {
    "rmse": (HOURS, "rmse"),
    "mae": (HOURS, "mae"),
    "r2_score": (HOURS, "r2_score"),
    "own": (HOURS, own_metric(worst, higher_is_better=False)),
    "macro_log_loss": (GRADES, "macro_log_loss"),
    "log_loss": (PARTED, "log_loss"),
    "accuracy_score": (GRADES, "accuracy_score"),
    "costs": (GRADES, expected_cost([[0, 1, 2], [1, 0, 1], [5, 3, 0]])),
    "mean_pinball_loss": (RANGES, "mean_pinball_loss"),
}


@pytest.mark.parametrize("name", GATES)
def test_a_challenger_replaces_a_champion_that_knows_nothing(name: str, scenes: Scenes) -> None:
    model, metric = GATES[name]
    rule: SerialRule | None = "ignored" if name == "own" else None  # the worst rows of 14 days say little
    scene, _ = scenes.of(replace(model, gate=Gate(metric, serial_correlation=rule)), knows_nothing=True)
    second = scene.run(name, T2)
    assert (second.outcome, scene.published().version) == ("published", second.version), second.reason
    assert second.gate is not None
    decided = second.gate["metrics"][metric_named(metric).name]
    assert (second.gate["metric"], decided["gain_low"] > 0) == (metric_named(metric).name, True)


@pytest.mark.parametrize("name", EVERY)
def test_an_equal_challenger_is_refused(name: str, scenes: Scenes) -> None:
    """Champion and challenger are judged on the same rows: the champion by what it has answered."""
    scene, _ = scenes.of(EVERY[name])
    second = scene.run("second", T2)
    assert second.outcome == "refused", second.reason
    assert second.gate is not None
    assert (second.gate["rows"], second.gate["days"]) == (14 * 150, 14)
    found = second.gate["metrics"][second.gate["metric"]]
    assert found["gain"] == pytest.approx(0, abs=0.02)


def test_too_few_rows_of_a_class_postpone_a_run(tmp_path: Path) -> None:
    """A class that is declared and never comes is one of them."""
    rare = replace(GRADES, label=replace(GRADES.label, classes=[*CLASSES, "lost"]))
    ended = Parcels(tmp_path, rare).run("first", T1)
    assert (ended.outcome, [*ended.seconds]) == ("postponed", ["training_set"])
    assert "not enough evidence in the holdout: 0 of 100 rows of class 'lost'" in ended.reason


def test_a_model_whose_classes_change_begins_anew(scenes: Scenes) -> None:
    """What the live version answers cannot be compared with the other classes, so the gate is that of a first one."""
    scene, _ = scenes.of(GRADES)
    scene.model = replace(GRADES, label=replace(GRADES.label, classes=[*reversed(CLASSES)]))
    second = scene.run("other", T2)
    assert second.outcome == "published", second.reason
    assert second.gate is not None
    assert second.gate["rule"] == "first"


@pytest.mark.parametrize("name", EVERY)
def test_rules_get_the_predictions_and_outcomes_of_the_live_version(name: str, scenes: Scenes) -> None:
    scene, _ = scenes.of(EVERY[name])
    evidence = ModelLog(scene.model, scene.log).evidence(day(60), 1)
    task = scene.model.label.predicts
    scores, outcomes = evidence.scores(), evidence.outcomes()
    assert scores.score.shape == task.shape(30 * 150)
    assert outcomes.score.shape == task.shape(len(outcomes.label))
    assert len(outcomes.label) > 28 * 150
    rule: Any = performance(scene.model.gate.metric or "", drop=10.0)
    assert isinstance(rule, PerformanceRule)
    measured = rule.measure(evidence)
    assert (measured["days"], measured["reference_days"], measured["value"]) == (15, 14, None)


@pytest.mark.parametrize("name", EVERY)
def test_a_decision_records_what_its_rules_measured(name: str, scenes: Scenes) -> None:
    """The record can be judged again, so its numbers are plain JSON."""
    scene, _ = scenes.of(EVERY[name])
    watching = replace(scene.model, triggers=any_of(drift("score", psi=0.2, sample="6d"), volume(labels=9_000)))
    sent: list[DecisionRecord] = []

    def send(topic: str, _key: bytes, value: bytes) -> None:
        if topic == DECISIONS:
            sent.append(decode(value, DecisionRecord))

    TriggerConsumer([watching], scene.log, scene.model_events, send).tick(day(60))
    assert sent[-1].decision is not None, sent[-1].reason
    measured = sent[-1].decision.inputs["rules"]["drift"]
    assert (measured["sample_days"], measured["reference_days"]) == (6, 24)
    assert 0 < measured["psi"] < 0.2
    assert not sent[-1].decision.fired


def test_a_version_is_not_made_again_for_another_task(scenes: Scenes) -> None:
    scene, _ = scenes.of(GRADES)
    published = scene.published()
    kept = manifest.decode(artifact.fetch(published.manifest.uri))
    again = Reproducer(scene.folder / "log", InlineFits(), places=ArtifactPlaces([scene.folder]))
    with pytest.raises(TerminalError, match=r"version 1 predicts classes \['quick', .* label is now regression \[\]"):
        again.reproduce(HOURS, published, kept, T1)


@pytest.mark.parametrize("name", EVERY)
def test_a_version_of_any_task_is_made_again_to_the_bit(name: str, scenes: Scenes) -> None:
    scene, _ = scenes.of(EVERY[name])
    published = scene.published()
    kept = manifest.decode(artifact.fetch(published.manifest.uri))
    found = Reproducer(scene.folder / "log", InlineFits(), places=ArtifactPlaces([scene.folder])).reproduce(
        scene.model, published, kept, T1
    )
    assert (found.identical, found.different_rows, found.largest, found.differences) == (True, 0, 0.0, [])


@pytest.mark.parametrize("name", EVERY)
def test_a_training_set_has_the_labels_as_they_were_sent(name: str, scenes: Scenes) -> None:
    scene, _ = scenes.of(EVERY[name])
    rows = pl.concat(list(RequestRows(scene.model, scene.log, T1).pieces()))
    sent = {each.parcel_id: each for each in made()[1]}
    field = "grade" if scene.model.label.predicts.classes else "hours"
    wanted = [getattr(sent[key], field) for key in rows.get_column("parcel_id")]
    assert rows.get_column("label").to_list() == wanted
    assert len(wanted) == 29 * 150


@pytest.mark.parametrize("name", EVERY)
def test_a_past_prediction_has_its_values_and_its_outcome(name: str, scenes: Scenes) -> None:
    scene, _ = scenes.of(EVERY[name])
    past = PastPredictions(lambda _: scene.model, scene.log, dict)
    newest = past.newest(1)[0]
    task, number = scene.model.label.predicts, int(newest["key"])
    assert (newest["format"], newest["score"]) == (2, None)
    assert newest["outputs"] == (list(task.outputs) or None)
    assert len(newest["values"]) == (len(task.outputs) or 1)
    listed = str(score_text(newest))
    assert all(name in listed for name in task.outputs)
    shown = past.show(newest["prediction_id"], now_us=day(70))
    delivery = made()[1][number]
    assert shown.outcome.label == (delivery.grade if task.classes else delivery.hours)
