"""One view with every aggregate, random events for it, and how near the naive loop its values must be."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from headrace.base.times import epoch_us
from headrace.bus.event import Event
from headrace.bus.source_partition import SourcePartition
from headrace.bus.stream import Stream
from headrace.bus.vector import Vector
from headrace.features.definitions.aggregates import (
    ApproxDistinct,
    Count,
    DecayedSum,
    First,
    Histogram,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Quantile,
    Std,
    Sum,
    Variance,
)
from headrace.features.definitions.categories import CountBy, SumBy
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.frequency import Entropy, Mode, TopK, TopShare, UniqueList
from headrace.features.definitions.recency import Age, Gap, Since
from headrace.features.definitions.shape import Correlation, DecayedMean, Kurtosis, Ratio, Skew, Trend
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Calendar, Lifetime, Rows, Session, Sliding, Tumbling
from headrace.features.kernel.tile_kernel import kernel

if TYPE_CHECKING:
    from tests.support.naive_aggregates import Answer

START = datetime(2013, 1, 1, tzinfo=UTC)


class Sale(Event):
    """An event with every kind of field that an aggregate may take."""

    shop: str
    till: int
    at: datetime
    amount: float | None
    pieces: int
    cash: bool
    buyer: str | None
    place: Annotated[list[float], Vector(2)] | None


FIELDS = ("shop", "till", "amount", "pieces", "cash", "buyer", "place")
sales = Stream("sales", Sale, event_time="at", tolerance="10m")
view = FeatureView(
    "sales",
    entity=Entity("place", keys={"shop": str, "till": int}),
    source=sales,
    windows=[
        "10m",
        "1h",
        Sliding("10m", lag="20m"),
        Tumbling("1d", lag="1d"),
        Calendar("day", "Asia/Kolkata", ago=1),
        Lifetime(),
    ],
    derived={"each": col("amount") / col("pieces")},
    where=col("pieces") >= 0,
    features={
        "n": Count(),
        "n_paid": Count("amount"),
        "amount": Sum("amount"),
        "pieces": Sum("pieces"),
        "mean": Mean("amount"),
        "each": Mean("each"),
        "cash_share": Mean("cash", where=col("amount") > 5),
        "low": Min("amount"),
        "high": Max("pieces"),
        "last": Last("amount"),
        "last_cash": Last("cash"),
        "sizes": Histogram("amount", [0.0, 5.0, 10.0]),
        "spread": Variance("amount"),
        "scatter": Std("pieces", where=col("cash")),
        "first": First("amount"),
        "first_each": First("each", where=col("pieces") > 1),
        "newest": LastN("amount", 3),
        "newest_cash": LastN("cash", 2, where=col("amount") > 0),
        "recent": DecayedSum("amount", "20m"),
        "recent_pieces": DecayedSum("pieces", "1s"),
        "buyers": ApproxDistinct("buyer"),
        "amounts": ApproxDistinct("amount", precision=12),
        "times": ApproxDistinct("at", where=col("cash")),
        "middle": Quantile("amount", 0.5),
        "last_buyer": Last("buyer"),
        "first_buyer": First("buyer", where=col("cash")),
        "newest_buyers": LastN("buyer", 2),
        "last_at": Last("at", where=col("amount") > 0),
        "first_at": First("at"),
        "newest_at": LastN("at", 2),
        "list_of_buyers": LastN("buyer", 3, as_list=True),
        "list_of_amounts": LastN("amount", 3, as_list=True, where=col("cash")),
        "list_of_cash": LastN("cash", 2, as_list=True),
        "list_of_times": LastN("at", 2, as_list=True),
        "since": Since(),
        "since_cash": Since("amount", where=col("cash")),
        "age": Age(),
        "age_buyer": Age("buyer"),
        "rhythm": Gap("mean"),
        "rhythm_cash": Gap("mean", "amount", where=col("cash")),
        "pause": Gap("last"),
        "pause_cash": Gap("last", where=col("cash")),
        "share": Ratio("amount", "pieces"),
        "share_cash": Ratio(Sum("amount", where=col("cash")), Sum("amount")),
        "rate_cash": Ratio(Count(where=col("cash")), Count()),
        "rate_paid": Ratio(Count("amount"), Sum("cash")),
        "lean": Skew("amount"),
        "lean_cash": Skew("pieces", where=col("cash")),
        "tails": Kurtosis("amount"),
        "tails_each": Kurtosis("each", where=col("pieces") > 1),
        "together": Correlation("amount", "pieces"),
        "together_cash": Correlation("each", "cash", where=col("amount") > 0),
        "slope": Trend("amount"),
        "slope_cash": Trend("pieces", per="1m", where=col("cash")),
        "moving": DecayedMean("amount", "20m"),
        "moving_pieces": DecayedMean("pieces", "1s", where=col("cash")),
        "by_buyer": CountBy("buyer", of={"ann": "ann", "nobody": ""}),
        "by_pieces": CountBy("pieces", of=[1, 3], where=col("cash")),
        "paid_by": SumBy("amount", by="buyer", of=["ann"]),
        "pieces_by": SumBy("pieces", by="pieces", of=[0, 2], where=col("cash")),
        "favourites": TopK("buyer", 2),
        "some_favourites": TopK("buyer", 2, capacity=2),
        "usual_pieces": TopK("pieces", 2, capacity=2, where=col("cash")),
        "usual_buyer": Mode("buyer", where=col("amount") > 0),
        "usual": Mode("pieces", capacity=3),
        "some_buyers": UniqueList("buyer", most=2),
        "some_amounts": UniqueList("amount", most=3, where=col("cash")),
        "all_pieces": UniqueList("pieces"),
        "some_times": UniqueList("at", most=1),
        "loyal": TopShare("buyer", capacity=2),
        "loyal_pieces": TopShare("pieces", n=2),
        "variety": Entropy("buyer"),
        "some_variety": Entropy("pieces", capacity=1),
        "middle_place": Mean("place", dim=2),
        "all_places": Sum("place", dim=2, where=col("cash")),
        "last_place": Last("place", dim=2),
        "first_place": First("place", dim=2, where=col("pieces") > 1),
        "pieces_at": Quantile("pieces", [0.1, 0.75, 0.999], error=0.05),
    },
)
KERNEL = kernel(view.spec)
recent = replace(
    view,
    name="recent",
    windows=[Rows(3), Rows(2, within="45m"), Session("5m"), Session("12m", within="4h", ago=1), "10m"],
)
"""The same aggregates over windows of which rows choose the content."""
SOURCES = [SourcePartition(p, bytes([7]) * 16) for p in range(2)]


def build(raw: list[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows with offsets, record timestamps and event times."""
    record_us, offsets, rows = epoch_us(START), [0, 0], []
    for partition, minutes, seconds, shop, till, amount, pieces, cash, buyer in raw:
        record_us += seconds * 60_000_000
        time_us = record_us + minutes * 60_000_000
        at = START + timedelta(microseconds=time_us - epoch_us(START))
        event = {
            "shop": shop, "till": till, "amount": amount, "pieces": pieces, "cash": cash, "buyer": buyer, "at": at,
            "place": None if amount is None else [amount, -amount / 3],
        }  # fmt: skip
        rows.append(
            {
                "partition": partition,
                "offset": offsets[partition],
                "record_us": record_us,
                "time_us": time_us,
                "event": event,
            }
        )
        offsets[partition] += 1
    return rows


def same(found: Any, wanted: Any, slack: float = 1e-9) -> bool:
    """Equal, or as near as the law asks."""
    if found is None or wanted is None:
        return found is wanted
    if isinstance(found, list):
        return len(found) == len(wanted) and all(same(*pair, slack) for pair in zip(found, wanted, strict=True))
    if isinstance(found, datetime):  # a naive loop has it in microseconds
        return epoch_us(found) == int(wanted)
    return bool(found == wanted or (not isinstance(found, str) and abs(found - wanted) <= slack))


def wrong(found: list[Any], wanted: list[Answer], columns: list[str] = KERNEL.columns) -> dict[str, Any]:
    """The columns that differ from what the naive loop answers."""
    return {
        name: (value, right)
        for name, value, right in zip(columns, found, wanted, strict=True)
        if not same(value, *right)
    }
