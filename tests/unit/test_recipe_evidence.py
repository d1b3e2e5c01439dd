"""A champion without enough live answers is judged by its gated fit, on rows that neither fit was trained on."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import skops.io
from msgspec import UNSET
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import KBinsDiscretizer

from headrace.errors import RegistryUnavailableError
from headrace.models import artifact
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.model_events import Published
from headrace.models.registry import CHALLENGER_FILE
from headrace.models.row_scores import row_scores
from headrace.trainers.data.examples import ExampleBuilder, Examples
from headrace.trainers.definitions import Gate
from headrace.trainers.runs.champion_evidence import ChampionEvidence, judged_against
from headrace.trainers.runs.fitting import FitPool
from headrace.trainers.runs.gate import EvidenceReport
from headrace.trainers.runs.holdout import Challenger, HoldoutSplit, split_holdout
from headrace.trainers.runs.holdout_span import HoldoutSpan
from headrace.trainers.runs.kept_fits import KeptScores
from headrace.trainers.runs.look_budget import LookCost
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.orders_model import LIVE_FROM, Shop, day, fit, model, request

if TYPE_CHECKING:
    from pathlib import Path


pytestmark = pytest.mark.slow


def coarse(X: Any, y: Any, run: Any, bins: int = 2) -> Any:  # noqa: N803
    """It knows the amount only as one of a few bins."""
    del run
    binned = KBinsDiscretizer(bins, encode="onehot-dense", quantile_method="averaged_inverted_cdf")
    return make_pipeline(binned, LogisticRegression()).fit(X, y)


def three_bins(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return coarse(X, y, run, 3)


def five_bins(X: Any, y: Any, run: Any) -> Any:  # noqa: N803
    return coarse(X, y, run, 5)


@pytest.fixture
def live(tmp_path: Path) -> Shop:
    """Version 1, which is coarse, was published on day 30 and answers since then."""
    shop = Shop(tmp_path)
    assert shop.runner(replace(model, train=coarse)).run(request("first", day(LIVE_FROM))).version == 1
    shop.serve(1)
    return shop


def kept_file(shop: Shop) -> Path:
    return shop.folder / "registry" / model.name / "returns-first" / CHALLENGER_FILE


def test_a_version_is_replaced_three_days_after_its_publication_by_the_recipe_evidence(live: Shop) -> None:
    ended = live.runner().run(request("second", day(33)))
    assert (ended.outcome, ended.version) == ("published", 2), ended.reason
    assert ended.gate is not None
    assert (ended.gate["decided_by"], ended.gate["days"]) == ("recipe", 14)
    assert "by the gated fits of both, because of the live answers: not enough evidence" in ended.reason
    assert (ended.gate["live"]["verdict"], ended.gate["live"]["rows"]) == ("postponed", 2 * 150)
    assert "2 of 14 days" in ended.gate["live"]["reason"]


def test_the_recipe_evidence_is_the_metric_of_both_gated_fits_on_the_rows_of_the_holdout(live: Shop) -> None:
    asked = request("second", day(33))
    ended = live.runner().run(asked)
    assert ended.gate is not None
    held = split_holdout(model, ExampleBuilder(model, live.log).build(asked.t_us), asked.t_us).holdout
    assert ended.gate["rows"] == len(held)
    for name, who in (("first", "champion"), ("second", "challenger")):
        stored = kept_file(live).parents[1] / f"returns-{name}" / CHALLENGER_FILE
        scores = row_scores(artifact.load(stored.read_bytes(), ()), held.frame).scores
        assert ended.gate["metrics"]["auc"][who] == pytest.approx(roc_auc_score(held.label, scores))


def test_versions_are_replaced_every_three_days_where_each_is_better(live: Shop) -> None:
    """Each is live for three days only."""
    for at, train in ((33, three_bins), (36, five_bins), (39, fit)):
        ended = live.runner(replace(model, train=train)).run(request(f"on-{at}", day(at)))
        assert ended.outcome == "published", ended.reason
    assert live.state.version == 4


def test_an_equally_good_challenger_is_refused_by_the_recipe_evidence(live: Shop) -> None:
    ended = live.runner(replace(model, train=coarse)).run(request("second", day(33)))
    assert ended.outcome == "refused"
    assert ended.gate is not None
    assert ended.gate["decided_by"] == "recipe"


def test_live_answers_decide_if_they_are_enough_and_the_report_has_the_recipe_beside_them(live: Shop) -> None:
    """The live answers of the scene know little, the gated fit a lot."""
    ended = live.runner(replace(model, train=coarse)).run(request("second", day(50)))
    assert (ended.outcome, ended.version) == ("published", 2), ended.reason
    assert ended.gate is not None
    assert "decided_by" not in ended.gate
    assert ended.gate["recipe"]["verdict"] == "refused"
    assert ended.gate["recipe"]["compared"]["champion"] > ended.gate["metrics"]["auc"]["champion"]


def test_rows_up_to_the_last_one_that_the_gated_fit_may_have_seen_do_not_count(live: Shop) -> None:
    """The event of an earlier release says only up to when the version itself was trained."""
    event = live.state.live
    assert event is not None
    assert isinstance(event.data, Published)
    assert day(13) <= int(event.data.gated_to_us or 0) < day(14)
    old = msgspec.structs.replace(event, data=msgspec.structs.replace(event.data, gated_to_us=UNSET))
    live.model_events = MemoryModelEventLog()
    live.model_events.append(old)
    ended = live.runner().run(request("second", day(33)))
    assert (ended.outcome, ended.gate) == ("postponed", None)
    assert "by its gated fit: not enough evidence in the holdout: 3 of 14 days" in ended.reason
    assert live.runner().run(request("later", day(44))).outcome == "published"


def test_days_that_are_like_their_neighbours_get_no_second_chance_by_the_recipe() -> None:
    """The gated fit is noise, so that any challenger would win against it."""
    rng, rows = np.random.default_rng(3), 14 * 300
    days, label = np.repeat(np.arange(14), 300), rng.integers(0, 2, rows).astype(np.int8)
    challenger = label + rng.normal(0, 1, rows)
    champion = label + rng.normal(0, np.where(days < 7, 4.0, 0.3))
    held = Examples(pd.DataFrame({"x": challenger}), label, np.arange(rows).astype(str), days, days * DAY_US)
    split = HoldoutSplit(held.take(np.zeros(rows, bool)), held, HoldoutSpan.of_days(0, 14))
    careful = replace(model, gate=Gate("auc"))
    found = judged_against(
        ChampionEvidence(champion, KeptScores(1, rng.normal(size=rows))),
        Challenger(split, challenger, np.ones(rows, np.int64)),
        careful,
        0,
        LookCost(careful.gate.alpha, 14),
    )
    assert (found.verdict, found.decided_by) == ("postponed", UNSET)
    assert "like their neighbours" in found.reason
    assert isinstance(found.recipe, EvidenceReport)
    assert found.recipe.verdict == "passed"


def test_gated_fits_that_cannot_decide_because_days_are_alike_say_so() -> None:
    """The live version has answered for one day, and each day the gated fit is a little worse than the day before."""
    rng, rows = np.random.default_rng(3), 14 * 300
    days, label = np.repeat(np.arange(14), 300), rng.integers(0, 2, rows).astype(np.int8)
    challenger, gated = label + rng.normal(0, 1, rows), label + rng.normal(0, 0.3 + 0.3 * days)
    held = Examples(pd.DataFrame({"x": challenger}), label, np.arange(rows).astype(str), days, days * DAY_US)
    split = HoldoutSplit(held.take(np.zeros(rows, bool)), held, HoldoutSpan.of_days(0, 14))
    found = judged_against(
        ChampionEvidence(np.where(days < 13, np.nan, challenger), KeptScores(1, gated)),
        Challenger(split, challenger, np.ones(rows, np.int64)),
        model,
        0,
        LookCost(model.gate.alpha, 14),
    )
    assert (found.verdict, found.decided_by, found.too_alike) == ("postponed", "recipe", True)
    assert "its days are like their neighbours" in found.reason
    assert "because of the live answers: not enough evidence in the holdout: 1 of 14 days" in found.reason


def stored(estimator: Any) -> bytes:
    return bytes(skops.io.dumps(estimator))


def unfit_of(kind: str) -> bytes | None:
    match kind:
        case "gone":
            return None
        case "broken":
            return b"no skops file"
        case "untrusted":
            return stored(Odd())
    return stored(LogisticRegression())  # not fitted


class Odd:
    """A type that no deployment trusts."""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gone", "the registry does not have its gated fit"),
        ("broken", "its gated fit cannot be used: the artifact is not a skops file"),
        ("untrusted", "its gated fit cannot be used: the artifact holds types that this deployment does not trust"),
        ("not fitted", "its gated fit cannot be used: 2,100 of 2,100 rows cannot be predicted"),
    ],
)
@pytest.mark.parametrize("pool", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_gated_fit_that_cannot_be_used_is_left_out_and_named(live: Shop, kind: str, said: str, *, pool: bool) -> None:
    live.pool = FitPool() if pool else live.pool
    content = unfit_of(kind)
    if content is None:
        kept_file(live).unlink()
    else:
        kept_file(live).write_bytes(content)
    early = live.runner().run(request("second", day(33)))
    assert early.outcome == "postponed"
    assert f"without its gated fit: {said}" in early.reason
    late = live.runner().run(request("third", day(50)))
    assert late.outcome == "published"
    assert late.gate is not None
    assert late.gate["recipe"]["reason"].startswith(f"version 1 is left out: {said}")


def test_a_version_with_other_features_is_left_out_and_named(live: Shop) -> None:
    other = replace(model, request_features=["amount", "order_id"])
    early = live.runner(other).run(request("second", day(33)))
    assert early.outcome == "postponed"
    assert early.reason.endswith("without its gated fit: it has other features")


def test_a_registry_that_does_not_answer_is_waited_for(live: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its evidence is not left out: the verdict is that of a run that did not have to wait."""
    with monkeypatch.context() as away:

        def silent(*_: object) -> None:
            raise RegistryUnavailableError("no answer")

        away.setattr(live.registry, "gated_fit", silent)
        runner = live.runner()
        with pytest.raises(RegistryUnavailableError):
            runner.run(request("second", day(33)))
    assert runner.run(request("second", day(33))).outcome == "published"


def test_the_gated_fit_is_asked_once_in_a_run(live: Shop) -> None:
    asked = [0]
    whole = live.pool.score

    def counted(task: Any) -> np.ndarray:
        asked[0] += 1
        return whole(task)

    live.pool.score = counted  # type: ignore[method-assign]
    live.runner().run(request("second", day(33)))
    assert asked == [1]
