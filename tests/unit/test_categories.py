"""Aggregates of named categories: columns, specs, decimals, and what is refused."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import polars as pl
import pytest

from headrace import CountBy, Entity, FeatureView, Lifetime, Places, Stream, SumBy, col
from headrace.bus.event import Event
from headrace.errors import DefinitionError
from headrace.features.definitions.spec import to_document
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import TileKernel, kernel

if TYPE_CHECKING:
    from headrace.features.definitions.aggregates import Aggregate


class Payment(Event):
    card: str
    at: datetime
    mcc: str | None
    zone: int
    amount: float | None
    fee: Annotated[Decimal, Places(2)]


payments = Stream("payments", Payment, event_time="at")


def compiled(features: dict[str, Aggregate]) -> TileKernel:
    return kernel(FeatureView("v", Entity("card", str), payments, [Lifetime()], features).spec)


def answers(of: TileKernel, rows: list[tuple[str | None, int, float | None, str]]) -> dict[str, Any]:
    """The value of each column over rows of category, zone, amount and fee."""
    mcc, zone, amount, fee = zip(*rows, strict=True)
    frame = pl.DataFrame(
        {
            "card": ["a"] * len(rows),
            "at": np.arange(len(rows)).astype("datetime64[us]"),
            "mcc": mcc,
            "zone": zone,
            "amount": amount,
            "fee": list(map(Decimal, fee)),
            "__offset": np.arange(len(rows)),
        },
        schema_overrides={"mcc": pl.String, "amount": pl.Float64, "fee": pl.Decimal(18, 2)},
    )
    found = of.finish(of.reduce(of.lift(with_time(frame, "at")), np.array([0])), np.array([0]))
    names = [name.removeprefix("v__").removesuffix("_lifetime") for name in of.columns]
    return {name: v[0].item() if p[0] else None for name, (v, p) in zip(names, found, strict=True)}


ROWS = [
    ("a", 1, 2.0, "0.10"),
    ("b", 2, 3.0, "0.20"),
    ("c", 1, 5.0, "0.30"),
    (None, 3, 7.0, "0.40"),
    ("a", 1, None, "1.05"),
]


def test_each_category_has_a_column_and_the_others_one_together() -> None:
    of = compiled(
        {"n": CountBy("mcc", of=["a", "b"]), "zones": CountBy("zone", of={"home": 1}, where=col("mcc") != "c")}
    )
    assert answers(of, ROWS) == {"n_a": 2, "n_b": 1, "n_other": 1, "zones_home": 2, "zones_other": 1}


def test_sums_of_categories_leave_out_rows_without_a_category_or_a_value() -> None:
    of = compiled({"spent": SumBy("amount", by="mcc", of=["a"]), "fees": SumBy("fee", by="mcc", of=["a"])})
    assert answers(of, ROWS) == {"spent_a": 2.0, "spent_other": 8.0, "fees_a": 1.15, "fees_other": 0.5}


def test_the_specs_are_as_written() -> None:
    counts, sums = CountBy("mcc", of=["a", "b"]).spec, SumBy("amount", by="mcc", of={"home": 1}).spec
    assert to_document(counts) == {
        "name": "", "aggregate": "count_by", "value": ["col", "mcc"], "where": None, "of": ["a", "b"],
        "names": ["a", "b"],
    }  # fmt: skip
    assert to_document(sums) == {
        "name": "", "aggregate": "sum_by", "value": ["col", "amount"], "where": None, "of": [1], "names": ["home"],
        "by": ["col", "mcc"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: CountBy("mcc", of="ab").spec, ("CountBy(of='ab')", "a list of 1 to 100 categories")),
        (lambda: CountBy("mcc", of=[]).spec, ("a list of 1 to 100 categories",)),
        (lambda: CountBy("mcc", of=["a", 1]).spec, ("all texts, or all whole numbers",)),
        (lambda: CountBy("mcc", of=["a", "a"]).spec, ("stands there twice",)),
        (lambda: CountBy("mcc", of={"x": "a", "y": "a"}).spec, ("stands there twice",)),
        (lambda: CountBy("mcc", of=["a b"]).spec, ("['a b']", "of={'name': 'a b'}")),
        (lambda: CountBy("mcc", of=["other"]).spec, ("['other']", "of={'name': 'other'}")),
        (lambda: compiled({"n": CountBy("amount", of=["a"])}), ("feature 'n' of 'amount' is a count_by of float",)),
        (lambda: compiled({"n": CountBy("mcc", of=[1])}), ("feature 'n'", "str")),
        (lambda: compiled({"s": SumBy("mcc", by="mcc", of=["a"])}), ("feature 's' of 'mcc' is a sum of str",)),
    ],
)
def test_wrong_categories_are_refused(make: Any, said: tuple[str, ...]) -> None:
    with pytest.raises(DefinitionError) as refused:
        make()
    for part in said:
        assert part in str(refused.value)
