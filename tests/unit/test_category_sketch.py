"""Counts of categories: exact up to the capacity, equal in any cut, and stable in bytes."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest

from headrace import Entity, Entropy, FeatureView, Lifetime, Mode, Stream, TopK, TopShare, UniqueList
from headrace.bus.event import Event
from headrace.errors import DefinitionError
from headrace.features.definitions.spec import to_document
from headrace.features.kernel.category_sketch import CategorySketch
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.sketched_tiles import entries_of
from headrace.features.kernel.tile_kernel import TileKernel, kernel

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.aggregates import Aggregate


class Visit(Event):
    who: str
    at: datetime
    shop: str | None
    zone: int
    amount: float


visits = Stream("visits", Visit, event_time="at")
FEATURES: dict[str, Aggregate] = {
    "top": TopK("shop", 2, capacity=5), "share": TopShare("shop", n=2, capacity=5), "mode": Mode("zone", capacity=5),
    "variety": Entropy("shop", capacity=5),
}  # fmt: skip


def compiled(features: dict[str, Aggregate]) -> TileKernel:
    return kernel(FeatureView("v", Entity("who", str), visits, [Lifetime()], features).spec)


KERNEL = compiled(FEATURES)


def lifted(shops: Sequence[str | None], zones: list[int] | None = None) -> np.ndarray:
    """The partials of visits."""
    frame = pl.DataFrame(
        {
            "who": ["a"] * len(shops),
            "at": np.arange(len(shops)).astype("datetime64[us]"),
            "shop": list(shops),
            "zone": zones or [1] * len(shops),
            "amount": [1.0] * len(shops),
            "__offset": np.arange(len(shops)),
        },
        schema_overrides={"shop": pl.String},
    )
    return KERNEL.lift(with_time(frame, "at"))


def answers(partials: np.ndarray) -> list[Any]:
    """The value of each column over all partials."""
    found = KERNEL.finish(KERNEL.reduce(partials, np.array([0])), np.array([0]))
    return [v.tolist()[0] if p[0] else None for v, p in found]


def test_up_to_the_capacity_everything_is_exact() -> None:
    found = answers(lifted(["b", "a", None, "b", "c", "a"], [3, 3, -2, -2, -2, 7]))
    assert found[:4] == ["a", "b", 0.8, -2]
    assert found[4] == pytest.approx(1.5219280948873621)
    assert answers(lifted([None])) == [None, None, None, 1, None]


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_and_order_of_merges_gives_the_same_tile(seed: int) -> None:
    chance = np.random.default_rng(seed)
    shops = [f"shop {number}" for number in chance.zipf(1.3, 200) % 12]
    partials = lifted(shops)
    whole = KERNEL.reduce(partials, np.array([0]))
    for _ in range(10):
        shuffled = partials[chance.permutation(200)]
        cuts = np.unique(np.append(0, chance.integers(1, 199, 6)))
        tiles = KERNEL.reduce(shuffled, cuts)
        merged = tiles[:1]
        for place in range(1, len(tiles)):
            merged = KERNEL.merge(merged, tiles[place : place + 1])
        one, other = (KERNEL.layout.split(tile, np.array([1])) for tile in (whole, merged))
        assert [part[0] for part in one[1:]] == [part[0] for part in other[1:]]


def test_beyond_the_capacity_kept_counts_are_exact_and_the_rest_is_together() -> None:
    shops = [f"shop {number}" for number in np.random.default_rng(1).zipf(1.3, 500) % 30]
    merged = KERNEL.reduce(lifted(shops), np.array([0]))
    entries, _ = entries_of(merged, 0)
    counts = Counter(shops)
    named, rest = entries[:-1], entries[-1]
    assert {text.decode(): n for text, n in zip(named["category"].tolist(), named["count"].tolist(), strict=True)} == {
        text.decode(): counts[text.decode()] for text in named["category"].tolist()
    }
    assert (len(named), -rest["count"]) == (5, 500 - named["count"].sum())
    assert 0 < answers(lifted(shops))[2] < 1


def test_a_long_text_counts_by_its_beginning_and_no_character_is_cut() -> None:
    long = "é" * 20
    assert answers(lifted([long, "é" * 16 + "!", "x"]))[0] == "é" * 16


def test_two_categories_of_one_hash_are_two() -> None:
    sketch = CategorySketch(3, "<i8")
    entries = np.zeros(4, sketch.dtype)
    entries["hash"], entries["count"], entries["category"] = 7, 1, [2, 1, 2, 3]
    for order in ([0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]):
        found, _ = sketch.collapse(entries[order], np.zeros(4, np.int64), np.zeros(4, np.int64))
        assert found[["category", "count"]].tolist() == [(1, 1), (2, 2), (3, 1)]


GROCERY = "88126133b633ace3010000000000000067726f6365727900000000000000000000000000000000000000000000000000"
FIVE = "5ac389a30c3b036301000000000000000500000000000000"


def test_the_bytes_of_an_entry_are_as_written() -> None:
    partials = lifted(["grocery"], [5])
    entries = [entries_of(partials, sketch)[0] for sketch in range(2)]
    assert [len(each.tobytes()) for each in entries] == [48, 24]
    assert entries[0].tobytes().hex() == GROCERY
    assert entries[1].tobytes().hex() == FIVE


@pytest.mark.parametrize(
    ("made", "written"),
    [
        (TopK("shop", 3), {"aggregate": "top_k", "capacity": 64, "n": 3}),
        (TopShare("shop"), {"aggregate": "top_share", "capacity": 64, "n": 1}),
        (Mode("shop", capacity=9), {"aggregate": "mode", "capacity": 9}),
        (UniqueList("shop", 3), {"aggregate": "unique_list", "n": 3}),
        (Entropy("shop"), {"aggregate": "entropy", "capacity": 64}),
    ],
)
def test_the_specs_are_as_written(made: Any, written: dict[str, Any]) -> None:
    assert to_document(made.spec) == {"name": "", "value": ["col", "shop"], "where": None, **written}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: UniqueList("shop", 101), "UniqueList(most=101): a whole number from 1 to 100"),
        (lambda: TopK("shop", 0), "TopK(n=0): a whole number from 1 to 64"),
        (lambda: TopK("shop", 9, capacity=8), "TopK(n=9): a whole number from 1 to 8"),
        (lambda: Mode("shop", capacity=501), "Mode(capacity=501): a whole number of categories from 1 to 500"),
        (
            lambda: compiled({"m": Mode("amount")}),
            "'m' of 'amount' is a mode of float; it takes ['int', 'str']",
        ),
    ],
)
def test_a_wrong_frequency_is_refused(make: Any, said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    assert said in str(refused.value)
