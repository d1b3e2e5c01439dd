"""Blocks that are entities: all rows of an entity are drawn together, however many entities there are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.evidence_entities import of_entities
from headrace.errors import DefinitionError
from headrace.features.definitions.entity import Entity
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.definitions import Gate
from headrace.trainers.metrics.block_rows import BlockRows
from headrace.trainers.metrics.entity_blocks import MOST_ENTITY_BLOCKS, entity_blocks, entity_hashes
from headrace.trainers.metrics.intervals import gain_interval
from headrace.trainers.metrics.named_metrics import metric_named, within_block
from headrace.trainers.model_spec import Floors
from headrace.trainers.runs.holdout import split_holdout
from tests.support.orders_model import LIVE_FROM, Shop, day, model, request

if TYPE_CHECKING:
    from pathlib import Path

keys = st.lists(st.tuples(st.one_of(st.none(), st.integers(), st.text(max_size=3)), st.integers(0, 3)), max_size=60)


@given(keys)
def test_rows_are_in_one_block_exactly_if_they_are_of_one_entity(rows: list[tuple[Any, int]]) -> None:
    blocks = entity_blocks(entity_hashes(rows)).tolist()
    assert len(set(blocks)) == len(set(rows)) == len(set(zip(rows, blocks, strict=True)))


@given(st.integers(1, 5_000), st.integers(1, 3))
def test_many_entities_share_blocks_of_about_equally_many(entities: int, rows: int) -> None:
    blocks = entity_blocks(entity_hashes((number,) for number in range(entities)).repeat(rows))
    sizes = np.bincount(blocks)
    assert len(sizes) == min(entities, MOST_ENTITY_BLOCKS)
    assert rows * (entities // len(sizes)) <= sizes.min() <= sizes.max() <= rows * -(-entities // len(sizes))


def test_the_block_of_an_entity_is_the_same_in_every_process_and_release() -> None:
    assert entity_hashes([("a", 7), ("b", 7)]).tolist() == [3533566327150127805, 8903018824089833802]


@given(st.integers(0, 9), st.sampled_from(["auc", "logloss", "brier_score_loss"]))
def test_rows_that_only_repeat_others_of_their_entity_say_nothing_more(seed: int, name: str) -> None:
    entity, pair = of_entities(np.random.default_rng(seed), 20)
    once = pair(entity_blocks(entity_hashes((each,) for each in entity.tolist())))
    thrice = tuple(map(three_times, once))
    ours, repeated = (
        gain_interval(theirs, ours, metric_named(name), seed=1, draws=200).interval for theirs, ours in (once, thrice)
    )
    assert (repeated.low, repeated.high) == pytest.approx((ours.low, ours.high))


def three_times(rows: BlockRows) -> BlockRows:
    parts = (rows.blocks[rows.index], rows.truth, rows.prediction)
    return BlockRows(*(np.tile(part, 3) for part in parts))


@pytest.mark.slow
def test_equally_good_models_pass_too_often_by_days_and_not_by_entities() -> None:
    """Each model errs on all rows of an entity alike, and there are 30 entities: what a day has of them is no news."""
    metric, passed = metric_named("brier_score_loss"), dict.fromkeys(("days", "entities"), 0)
    for seed in range(100):
        entity, pair = of_entities(np.random.default_rng([7, seed]), 30)
        for kind, block in (("days", np.arange(len(entity)) % 14), ("entities", entity)):
            passed[kind] += gain_interval(*pair(block), metric, seed=1, draws=40).interval.low > 0
    assert passed["entities"] <= 7  # 2.5 % are 2 or 3
    assert passed["days"] >= 14


def test_a_gate_names_the_fields_of_its_entity_in_its_spec() -> None:
    route = Gate("auc", block=Entity("route", keys=["origin", "dest"]))
    assert (route.spec.block, route.blocks_named) == (("origin", "dest"), "values of origin and dest")
    assert Gate("auc", block="shop").spec == Gate("auc", block=Entity("shop")).spec
    assert msgspec.to_builtins(Gate("auc", block="shop", holdout="1d").spec)["block"] == ("shop",)
    assert Gate("auc", block="card.id").spec == Gate("auc", block=Entity("card", keys={"card.id": int})).spec
    budget = Gate("auc", block="shop", alpha=0.05, per="year")
    assert not budget.measures_correlation


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ({"serial_correlation": "measured"}, "block='shop' resamples values of shop, which have no order, so serial_"),
        ({"holdout": "20h"}, "holdout='20h' must be a number of whole days, such as '14d'"),
        ({"metric": within_block("auc")}, r"metric='within_block\(auc\)' is for blocks of time"),
        ({"floors": Floors(blocks=501)}, "in at most 500 blocks; floors: blocks=501 is above it"),
    ],
)
def test_a_gate_that_asks_of_entities_what_only_times_have_is_refused(gate: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        Gate(**({"metric": "auc", "block": "shop"} | gate))


def test_a_block_that_is_no_field_of_the_requests_is_refused_with_those_that_could_be() -> None:
    with pytest.raises(
        DefinitionError, match=r"gate: block names 'day'; the int/str fields of Order .* \['order_id', 'shop'\]"
    ):
        replace(model, gate=Gate("auc", block="day"))


@pytest.mark.slow
def test_a_run_judges_by_entities_and_says_how_many_are_missing(tmp_path: Path) -> None:
    shop, now = Shop(tmp_path), request("first", day(LIVE_FROM))
    few = shop.runner(replace(model, gate=Gate("auc", block="shop"))).run(now)
    assert few.outcome == "postponed"
    assert few.reason == (
        "not enough evidence in the holdout: 5 of 14 values of shop; "
        "it can be judged when 9 more values of shop are there"
    )
    assert few.again_us == day(LIVE_FROM + 1)
    by_order = replace(model, gate=Gate("auc", block="order_id"))
    many = shop.runner(by_order).run(now)
    assert many.gate is not None
    assert (many.outcome, many.gate["days"], many.gate["blocks"]) == ("published", 14, MOST_ENTITY_BLOCKS)


@pytest.mark.slow
def test_the_rows_of_a_holdout_are_in_the_blocks_of_their_entities(tmp_path: Path) -> None:
    by_shop, shop = replace(model, gate=Gate("auc", block="shop")), Shop(tmp_path)
    held = split_holdout(by_shop, ExampleBuilder(by_shop, shop.log).build(day(40)), day(40))
    shops = {str(order.order_id): order.shop for order in shop.orders}
    assert len(held.holdout) > 1_000
    assert len({(shops[key], block) for key, block in zip(held.holdout.key, held.blocks.tolist(), strict=True)}) == 5
