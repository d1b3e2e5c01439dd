"""Values do not depend on how many rows are tiles at once, and orders are those of a plain sort."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.features.definitions.aggregates import ApproxDistinct, Count, Last, Mean, Quantile
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Lifetime, Tumbling
from headrace.features.kernel.sorting import stable_order
from headrace.features.offline import tile_index, view_history
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.offline.tile_index import TileIndex
from tests.support.orders_model import DAYS, Shop, day, orders

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.features.definitions.aggregates import Aggregate
    from headrace.features.kernel.tile_kernel import TileKernel

features: dict[str, Aggregate] = {
    "n": Count(), "mean": Mean("amount"), "last": Last("amount"),
    "ids": ApproxDistinct("order_id"), "p": Quantile("amount", 0.5)
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("windows", [["1d", "30d"], [Lifetime(), "1h"], [Tumbling("7d")]], ids=str)
def test_some_entities_at_a_time_are_as_all_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, windows: Sequence[object]
) -> None:
    view = FeatureView("v", Entity("shop"), orders, list(windows), features)  # type: ignore[arg-type]
    chance = np.random.default_rng(5)
    keys = pl.DataFrame({"shop": [f"shop-{number}" for number in chance.integers(0, 7, 400)]})
    at_us = chance.integers(day(20), day(DAYS + 2), 400)
    history = FeatureHistory([view.spec], Shop(tmp_path).log)
    history.refresh()
    wanted = history.features(keys, at_us)
    made: list[pl.DataFrame] = []

    def counting(kernel: TileKernel, rows: pl.DataFrame, sources: int, measured: Sequence[str]) -> TileIndex:
        made.append(rows)
        return TileIndex(kernel, rows, sources, measured)

    monkeypatch.setattr(view_history, "TileIndex", counting)
    monkeypatch.setattr(view_history, "INDEX_ROWS", 2_000)
    assert history.features(keys, at_us).equals(wanted)
    assert len(made) > 1
    assert sum(map(len, made)) <= DAYS * 150
    assert history.features(keys[:0], at_us[:0]).equals(wanted[:0])
    made.clear()
    longest_us = view.spec.longest_reach_us
    narrow = history.features(keys[:1], at_us[:1])
    assert narrow.equals(wanted[:1])
    (rows,) = made
    assert rows["shop"].unique().to_list() == keys["shop"][:1].to_list()
    assert rows["__time"].is_between(int(at_us[0]) - longest_us, int(at_us[0]) + longest_us).all()


@pytest.mark.slow
@pytest.mark.parametrize("names", [["n", "last"], list(features)], ids=["plain", "with sketches"])
def test_values_do_not_depend_on_how_much_a_thread_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: Sequence[str]
) -> None:
    view = FeatureView("v", Entity("shop"), orders, ["1d", Lifetime()], {name: features[name] for name in names})
    chance = np.random.default_rng(6)
    keys = pl.DataFrame({"shop": [f"shop-{number}" for number in chance.integers(0, 7, 300)]})
    at_us = chance.integers(day(20), day(22), 300)  # a lifetime's tile is cut by each
    history = FeatureHistory([view.spec], Shop(tmp_path).log)
    history.refresh()
    wanted = history.features(keys, at_us)
    monkeypatch.setattr(tile_index, "_CHUNK", 500)
    assert history.features(keys, at_us).equals(wanted)
    assert wanted["v__n_lifetime"].n_unique() > 50


def test_entities_of_two_join_keys_are_told_apart() -> None:
    rows = pl.DataFrame({"shop": ["a", "b", "a", None], "till": [1, 1, 2, 1]})
    entities, numbers = tile_index.EntityNumbers.number(rows)
    assert numbers.tolist() == [0, 1, 2, 3]
    asked = pl.DataFrame({"shop": ["b", "b", "a", "c", "b", None], "till": [1, 2, 2, 1, 3, 1]})
    assert entities.find(asked).tolist() == [1, -1, 2, -1, -1, -1]


@pytest.mark.slow
@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 2, 7, 70_000, 5 * 10**9, 2**40]), st.integers(-5, 5))),
    st.sampled_from([1, 2**30]),
)
def test_an_order_is_that_of_a_plain_sort(pairs: list[tuple[int, int]], width: int) -> None:
    major, minor = np.array(pairs, np.int64).reshape(-1, 2).T * [[1], [width]]
    assert stable_order(major, minor).tolist() == np.lexsort((minor, major)).tolist()
    ordered = np.arange(len(major))
    assert stable_order(major, ordered).tolist() == np.lexsort((ordered, major)).tolist()
