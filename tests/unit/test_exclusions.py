"""What is marked bad, and that it enters nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DefinitionError, NewerFormatError
from headrace.models import artifact, manifest
from headrace.models.manifest import TimeSpan
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.exclusions import (
    Excluded,
    ExclusionChange,
    Exclusions,
    Included,
    KafkaExclusions,
    MemoryExclusions,
    decode,
    exclude,
    excluded_spans,
    fold,
)
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.holdout import split_holdout
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.orders_model import A_DAY, LIVE_FROM, Shop, day, model, request

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.manifest import Manifest

pytestmark = pytest.mark.slow  # a second and more for its scenes

T1, T2 = day(LIVE_FROM), day(50)
BAD = TimeSpan(from_us=day(10), to_us=day(12), reason="the till was broken")
GOLDEN = b'{"type":"excluded","id":"x","model":null,"from_us":1,"to_us":2,"reason":"broken","at_us":3,"format":1}'


def test_an_exclusion_is_these_bytes() -> None:
    change = exclude("x", None, TimeSpan(from_us=1, to_us=2, reason=" broken "), at_us=3)
    assert msgspec.json.encode(change) == GOLDEN
    assert decode(GOLDEN) == change
    by_ann = exclude("x", None, TimeSpan(from_us=1, to_us=2, reason="broken"), at_us=3, by="ann")
    assert decode(msgspec.json.encode(by_ann)).by == "ann"
    back = Included(id="x", reason="was fine", at_us=4)
    golden = b'{"type":"included","id":"x","reason":"was fine","at_us":4,"format":1}'
    assert msgspec.json.encode(back) == golden
    assert decode(golden) == back
    with pytest.raises(NewerFormatError, match="an exclusion of data has format 2"):
        decode(GOLDEN.replace(b'"format":1', b'"format":2'))


@pytest.mark.parametrize(
    ("span", "said"),
    [
        (TimeSpan(from_us=day(2), to_us=day(2), reason="x"), "is empty"),
        (TimeSpan(from_us=day(2), to_us=day(1), reason="x"), "must come after"),
        (TimeSpan(from_us=day(2), to_us=day(3), reason=" "), "give the reason"),
    ],
)
def test_an_exclusion_that_makes_no_sense_is_refused(span: TimeSpan, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        exclude("x", None, span, at_us=3)


IDS = st.sampled_from("abc")
CHANGES: st.SearchStrategy[list[ExclusionChange]] = st.lists(
    st.one_of(
        st.builds(
            lambda id_, name, start: Excluded(id=id_, model=name, from_us=start, to_us=start + 5, reason="r", at_us=0),
            IDS,
            st.sampled_from([None, "m", "n"]),
            st.integers(0, 9),
        ),
        st.builds(lambda id_: Included(id=id_, reason="r", at_us=0), IDS),
    )
)


@given(CHANGES)
def test_the_fold_of_exclusions_equals_a_loop_and_replays_change_nothing(changes: list[ExclusionChange]) -> None:
    wanted: list[Excluded] = []
    seen: set[str] = set()
    for change in changes:
        if isinstance(change, Included):
            wanted = [each for each in wanted if each.id != change.id]
        elif change.id not in seen:
            wanted.append(change)
            seen.add(change.id)
    assert list(fold(changes).values()) == wanted
    assert fold([*changes, *changes]) == fold(changes) or any(isinstance(change, Included) for change in changes)
    mine = {(each.from_us, each.to_us) for each in wanted if each.model in {None, "m"}}
    assert {(span.from_us, span.to_us) for span in excluded_spans(wanted, "m")} == mine


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.integration)])
def exclusions(request: pytest.FixtureRequest) -> Exclusions:
    if request.param == "memory":
        return MemoryExclusions()
    servers = request.getfixturevalue("services").bootstrap_servers
    return KafkaExclusions(servers, f"{request.getfixturevalue('namespace')}.exclusions")


def test_every_exclusion_log_keeps_its_order(exclusions: Exclusions) -> None:
    assert exclusions.in_force() == {}
    first, second = exclude("a", None, BAD, at_us=1), exclude("b", "m", BAD, at_us=2)
    exclusions.append(first)
    exclusions.append(second)
    assert exclusions.in_force() == {"a": first, "b": second}
    exclusions.append(Included(id="a", reason="was fine", at_us=3))
    assert exclusions.in_force() == exclusions.in_force() == {"b": second}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The scene that the tests share."""
    return live(tmp_path_factory.mktemp("shop"))


def live(folder: Path) -> Shop:
    """Version 1 is live and has answered for twenty days."""
    scene = Shop(folder)
    assert scene.runner().run(request("first", T1)).outcome == "published"
    scene.serve(1, until=55)
    return scene


def kept(shop: Shop, name: str) -> Manifest:
    found = shop.registry.find(model.name, f"returns-{name}")
    assert found is not None
    return manifest.decode(artifact.fetch(found.manifest_uri))


def test_a_run_leaves_out_what_is_excluded_and_its_manifest_lists_it(shop: Shop) -> None:
    holdout = TimeSpan(from_us=day(40), to_us=day(41), reason="a sale")
    exclusions = MemoryExclusions()
    for name, of, span in (
        ("a", None, BAD),
        ("b", model.name, holdout),
        ("c", "another", TimeSpan(from_us=0, to_us=T2, reason="x")),
    ):
        exclusions.append(exclude(name, of, span, at_us=0))
    finished = shop.runner(exclusions=exclusions).run(request("clean", T2))
    whole = ExampleBuilder(model, shop.log).build(T2)
    assert finished.gate is not None
    assert (finished.outcome, finished.gate["days"], finished.gate["rows"]) == ("published", 14, 14 * A_DAY)
    assert finished.holdout_days == (day(34) // DAY_US, day(49) // DAY_US)  # a day more than without the sale
    assert split_holdout(model, whole, T2).span.days == (day(35) // DAY_US, day(49) // DAY_US)
    assert finished.rows == len(whole) - 3 * A_DAY
    assert kept(shop, "first").excluded == []
    assert kept(shop, "clean").excluded == [BAD, holdout]


def test_triggers_see_nothing_of_what_is_excluded(shop: Shop) -> None:
    def look(excluded: list[TimeSpan]) -> tuple[int, int, int]:
        log = ModelLog(model, shop.log)
        seen = log.evidence(T2, 1, excluded)
        return seen.matured_labels, len(seen.scores().score), len(seen.outcomes().score)

    labels, scores, outcomes = look([])
    in_live = TimeSpan(from_us=day(35), to_us=day(37), reason="x")
    assert look([in_live]) == (labels - 2 * A_DAY, scores - 2 * A_DAY, outcomes - 2 * A_DAY)
    exclusions = MemoryExclusions()
    exclusions.append(exclude("a", None, in_live, at_us=0))
    said: list[bytes] = []
    consumer = TriggerConsumer([model], shop.log, shop.model_events, lambda _t, _k, v: said.append(v), exclusions)
    consumer.tick(T2)
    assert msgspec.json.decode(said[-1])["decision"]["inputs"]["matured_labels"] == labels - 2 * A_DAY


def test_a_model_may_learn_from_what_was_served_and_counts_what_was_not(tmp_path: Path) -> None:
    shop = live(tmp_path)
    served = replace(model, learn_from="logged")
    sets = ExampleBuilder(served, shop.log)
    found = sets.build(day(58), "logged")
    assert set(found.frame["shop__orders_1d"]) == {3.0}  # as it was logged, whatever the events say
    assert len(found) == (55 - LIVE_FROM) * A_DAY
    assert found.never_served == (LIVE_FROM + 57 - 55) * A_DAY
    assert list(found.frame.columns) == list(sets.build(day(58)).frame.columns)
    finished = shop.runner(served).run(request("served", day(54)))
    assert finished.rows == (53 - LIVE_FROM) * A_DAY
    assert kept(shop, "served").params == {"source": "logged", "never_served": LIVE_FROM * A_DAY}


def test_vectors_of_another_service_are_not_learnt_from(shop: Shop) -> None:
    other = replace(model, learn_from="logged", features=replace(model.features, name="others"))
    found = ExampleBuilder(other, shop.log).build(T2, "logged")
    assert (len(found), found.never_served) == (0, 49 * A_DAY)


def test_a_model_without_a_version_learns_from_the_events(tmp_path: Path) -> None:
    fresh = Shop(tmp_path)
    finished = fresh.runner(replace(model, learn_from="logged")).run(request("first", T1))
    assert (finished.outcome, finished.rows) == ("published", 29 * A_DAY)
    assert kept(fresh, "first").params == {}
