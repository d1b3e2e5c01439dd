"""A gate that lets a little loss pass each time stops when the losses add up."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer

from headrace.models import artifact
from headrace.models.model_state import fold
from headrace.models.registry import CHALLENGER_FILE
from headrace.models.row_scores import row_scores
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.definitions import Gate
from headrace.trainers.runs.anchors import anchors
from headrace.trainers.runs.holdout import split_holdout
from tests.support.model_events import published, retired, rolled_back
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.model_events import ModelEvent
    from headrace.trainers.runs.messages import RunEnded

MARGIN = 0.02
SLIDING = replace(model, gate=Gate("auc", rule="not_worse", margin=MARGIN))


def binned(bins: int) -> Any:
    """An estimator that knows a number only as one of a few bins: the fewer, the worse."""
    bins_of = KBinsDiscretizer(bins, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    return make_pipeline(bins_of, LogisticRegression())


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


def run(shop: Shop, at: int, estimator: Any, **changes: Any) -> RunEnded:
    asked = replace(SLIDING, train=None, estimator=estimator, **changes)
    return shop.runner(asked).run(request(f"on-{at}", day(at)))


def slid(shop: Shop) -> RunEnded:
    """The third of three models, each a little worse than the one before."""
    for at, estimator in ((LIVE_FROM, LogisticRegression()), (33, binned(5))):
        assert run(shop, at, estimator).outcome == "published"
    return run(shop, 36, binned(4))


@pytest.mark.slow
def test_a_slow_slide_is_stopped_by_the_first_version(shop: Shop) -> None:
    """The challenger would pass by the champion alone."""
    ended = slid(shop)
    assert ended.gate is not None
    assert ended.gate["metrics"]["auc"]["gain_low"] > -MARGIN
    assert ended.gate["anchors"][0]["compared"]["gain_low"] < -MARGIN
    assert (ended.outcome, shop.state.version) == ("refused", 2)
    assert ended.reason.startswith("against version 1, the first and best one: auc 0.8")
    assert ended.reason.endswith("the lower bound is not above -0.0200")


@pytest.mark.slow
def test_an_anchor_whose_fit_is_gone_is_named_and_stops_nothing(shop: Shop) -> None:
    assert run(shop, LIVE_FROM, LogisticRegression()).outcome == "published"
    for file in (shop.folder / "registry").rglob(CHALLENGER_FILE):
        assert run(shop, 33, binned(5)).outcome == "published"
        file.unlink()
    ended = run(shop, 36, binned(4))
    assert (ended.outcome, ended.version) == ("published", 3)
    assert ended.gate is not None
    assert ended.gate["anchors"] == [
        {"version": 1, "roles": ["first", "best"], "left_out": "the registry does not have its gated fit"}
    ]


@pytest.mark.slow
def test_a_gate_that_asks_for_a_gain_reports_its_anchors_on_the_same_rows(shop: Shop) -> None:
    better = Gate("auc")
    for at, bins in ((LIVE_FROM, 2), (33, 3)):
        assert run(shop, at, binned(bins), gate=better).outcome == "published"
    asked = request("on-36", day(36))
    ended = run(shop, 36, LogisticRegression(), gate=better)
    assert (ended.outcome, ended.version) == ("published", 3)
    assert ended.gate is not None
    (anchor,) = ended.gate["anchors"]
    assert (anchor["version"], anchor["roles"], anchor["rows"]) == (1, ["first"], 14 * 150)
    held = split_holdout(model, ExampleBuilder(model, shop.log).build(asked.t_us), asked.t_us).holdout
    stored = shop.folder / "registry" / model.name / f"returns-on-{LIVE_FROM}" / CHALLENGER_FILE
    scores = row_scores(artifact.load(stored.read_bytes(), ()), held.frame).scores
    assert anchor["compared"]["champion"] == pytest.approx(roc_auc_score(held.label, scores))


def gained(id_: str, version: int, expects: str | None, gain: float | None) -> ModelEvent:
    metrics = {} if gain is None else {"auc": {"gain": gain}}
    return published(id_, version, expects=expects, gate={"metrics": metrics})


FIRST = gained("a", 1, None, None)


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ([], []),
        ([("b", 2, "a", 0.02)], [(1, ["first"])]),
        ([("b", 2, "a", -0.01)], [(1, ["first", "best"])]),
        ([("b", 2, "a", 0.02), ("c", 3, "b", -0.01)], [(1, ["first"]), (2, ["best"])]),
        ([("b", 2, "a", 0.02), ("c", 3, "b", -0.01), ("d", 4, "c", 0.02)], [(1, ["first"])]),
        ([("b", 2, "a", -0.01), ("c", 3, "b", 0.005), ("d", 4, "c", 0.004)], [(1, ["first", "best"])]),
    ],
)
def test_the_best_version_is_the_one_whose_gains_add_up_to_most(later: list[Any], expected: list[Any]) -> None:
    state = fold([FIRST, *(gained(*each) for each in later)])
    assert [(data.version, roles) for data, roles in anchors(state, "auc")] == expected


def test_the_gain_of_a_version_is_over_the_one_that_was_live() -> None:
    """Version 2 was taken back, so version 3 was compared with version 1."""
    back = [rolled_back("r", 1), rolled_back("u", 1, pin=False, lifts="r")]
    state = fold([FIRST, gained("b", 2, "a", 0.02), *back, gained("c", 3, "u", 0.01)])
    assert state.version == 3
    assert [(data.version, roles) for data, roles in anchors(state, "auc")] == [(1, ["first"]), (2, ["best"])]


def test_versions_that_were_retired_or_never_approved_are_no_anchors() -> None:
    waiting = published("w", 2, expects="a", gate={"metrics": {"auc": {"gain": 0.1}}}, format=4, approval="wanted")
    state = fold([FIRST, waiting, gained("c", 3, "a", 0.05), gained("d", 4, "c", -0.01)])
    assert [data.version for data, _ in anchors(state, "auc")] == [1, 3]
    state = fold([*state.history, retired("x", 1)])
    assert [(data.version, roles) for data, roles in anchors(state, "auc")] == [(3, ["first", "best"])]
