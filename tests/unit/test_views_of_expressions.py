"""A view whose features are expressions: the same in any batch cut as a plain loop over all rows."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

from headrace import ApproxDistinct, Count, Entity, Event, FeatureView, Last, Lifetime, Max, Stream, Sum, col, when
from headrace.features.kernel.role_rows import with_time
from headrace.features.kernel.tile_kernel import kernel
from tests.support.paid_orders import judged

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2023, 11, 14, 12, tzinfo=UTC)


class Payment(Event):
    paid_at: datetime
    ordered_at: datetime | None
    shop: str
    merchant: str | None
    amount: float
    pieces: int


payments = Stream("payments", Payment, event_time="paid_at")
merchant = col("merchant").text.strip().text.lower()
size = when(col("amount") > 100).then("large").when(col("amount") > 10).then("middle").otherwise(None)
view = FeatureView(
    "shop",
    Entity("shop"),
    payments,
    [Lifetime()],
    {
        "cafes": Count(where=merchant.text.contains("café")),
        "merchants": ApproxDistinct(merchant),
        "merchant": Last(merchant),
        "sizes": Count(size),
        "size": Last(size),
        "dozens": Sum(col("pieces") // 12),
        "highest": Max((col("amount") + 1).log()),
        "longest": Max(col("paid_at").seconds_since(col("ordered_at"))),
        "odd": Count(where=(col("pieces") % 2 == 1) & (merchant.text.hash(buckets=2) >= 0)),
    },
)
ROWS: list[dict[str, Any]] = [
    {
        "paid_at": NOON + timedelta(seconds=place),
        "ordered_at": None if place % 3 == 0 else NOON - timedelta(milliseconds=17 * place),
        "shop": "x",
        "merchant": [None, " Café A", "CAFÉ a\u3000", "B", "b "][place % 5],
        "amount": [5.0, 50.0, 500.0][place % 3],
        "pieces": place,
    }
    for place in range(41)
]


def wanted() -> list[Any]:
    names = [None if row["merchant"] is None else row["merchant"].strip().lower() for row in ROWS]
    known = [name for name in names if name is not None]
    sizes = ["large" if row["amount"] > 100 else "middle" for row in ROWS if row["amount"] > 10]
    waits = [(row["paid_at"] - row["ordered_at"]).total_seconds() for row in ROWS if row["ordered_at"] is not None]
    return [
        sum("café" in name for name in known),
        len(set(known)),
        known[-1],
        len(sizes),
        sizes[-1],
        sum(row["pieces"] // 12 for row in ROWS),
        pytest.approx(math.log(501.0), rel=1e-15),
        max(waits),
        sum(row["pieces"] % 2 == 1 and name is not None for row, name in zip(ROWS, names, strict=True)),
    ]


@pytest.mark.parametrize("cut", [lambda place: place, lambda place: place // 7, lambda _: 0])
def test_features_of_expressions_are_the_same_in_any_batch_cut(cut: Callable[[int], int]) -> None:
    compiled = kernel(view.spec)
    merged = compiled.empty
    for batch in sorted({cut(place) for place in range(len(ROWS))}):
        own = [(place, row) for place, row in enumerate(ROWS) if cut(place) == batch]
        frame = with_time(judged(payments, [msgspec.json.encode(row) for _, row in own], own[0][0]), "paid_at")
        merged = compiled.merge(merged, compiled.reduce(compiled.lift(frame), np.array([0])))
    found = [values[0] for values, there in compiled.finish(merged, np.array([0])) if there[0]]
    assert found == wanted()
