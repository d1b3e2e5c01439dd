"""Looked-up features that are texts are watched: their nulls, and the categories that were unseen before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime  # noqa: TC003 - the event type reads it
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace import (
    Count,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Gate,
    Label,
    Last,
    LastN,
    Model,
    Stream,
    col,
    volume,
)
from headrace.base.times import utc_datetime
from headrace.event_log.event_log import EventLog
from headrace.features.offline.vector_values import TEXTS
from headrace.models.predictions import ServedVector, logged_values
from headrace.trainers.data.input_watch import InputWatch
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.data.served_categories import MOST_CATEGORIES, OTHER, ServedCategories
from headrace.trainers.data.served_nulls import ServedNulls
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from headrace.trainers.triggers.watched_inputs import WatchedInput

FIRST, DAYS, A_DAY = 20_000, 100, 20
NOW_US = (FIRST + DAYS) * DAY_US
BROKEN_FROM = DAYS - 7


class Sale(Event):
    """A request."""

    sale_id: int
    shop: str
    sold_at: datetime


class Paid(Event):
    """A payment in a shop."""

    shop: str
    merchant: str
    paid_at: datetime


class Claim(Event):
    """A label."""

    sale_id: int
    justified: bool
    known_at: datetime


sales, claims = Stream("sales", Sale, event_time="sold_at"), Stream("claims", Claim, event_time="known_at")
shop = FeatureView(
    "shop", Entity("shop"), Stream("paid", Paid, event_time="paid_at"), ["1d"],
    {"n": Count(), "merchant": Last("merchant"), "since": Last("paid_at")},
)  # fmt: skip
MODEL = Model(
    "claims", requests=sales, request_key="sale_id", requested_at="sold_at", features=FeatureService("shops", [shop]),
    label=Label(claims, value=col("justified"), on="sale_id", within="1d"), train=lambda *_: None,
    triggers=volume(labels=1_000_000), gate=Gate("auc"),
)  # fmt: skip


def scene(
    folder: Path, merchant: Callable[[int, int], str | None], rows: Callable[[int], int] = lambda _: A_DAY
) -> EventLog:
    """A log of sales and vectors; ``merchant`` is the text that was served on a day to its nth sale."""
    log, bought, vectors = EventLog(folder), list[Sale](), list[ServedVector]()
    for day in range(DAYS):
        for number in range(rows(day)):
            at = utc_datetime((FIRST + day) * DAY_US + number * 1_000_000)
            sale = Sale(sale_id=len(bought), shop="s", sold_at=at)
            bought.append(sale)
            vectors.append(vector(sale, [1.0, merchant(day, number), at]))
    write(log, sales, bought)
    write(log, claims, [])
    write(log, VECTORS, vectors)
    log.create(PREDICTIONS)
    return log


def vector(sale: Sale, values: list[Any]) -> ServedVector:
    return ServedVector(
        vector_id=str(sale.sale_id), model=MODEL.name, key=str(sale.sale_id), requested_at=sale.sold_at,
        served_at=sale.sold_at, service=MODEL.features.version, statuses='{"shop":"present"}', offsets="{}",
        request="{}", **logged_values(values),
    )  # fmt: skip


def counted(log: EventLog) -> ServedNulls:
    nulls = ServedNulls(log, {MODEL.name: MODEL})
    while not nulls.count(FIRST + DAYS):
        pass
    return nulls


def looked(log: EventLog) -> dict[tuple[str, str], WatchedInput]:
    own = ModelLog(MODEL, log)
    own.evidence(NOW_US, None)
    found = InputWatch(MODEL, own, ServedNulls(log, {MODEL.name: MODEL})).look(NOW_US + 5)
    return {(each.input, each.what): each for each in found}


def usual(_: int, number: int) -> str:
    return f"merchant {number % 4}"


MERCHANT = "shop__merchant_1d"


@pytest.mark.parametrize(
    ("merchant", "marked"),
    [
        (usual, []),
        (lambda day, number: "opened today" if day >= BROKEN_FROM else usual(day, number), [(MERCHANT, "unseen")]),
        (lambda day, number: None if day >= BROKEN_FROM else usual(day, number), [(MERCHANT, "nulls")]),
    ],
)
def test_a_looked_up_text_is_watched_as_a_category(
    tmp_path: Path, merchant: Callable[[int, int], str | None], marked: list[tuple[str, str]]
) -> None:
    found = looked(scene(tmp_path, merchant))
    assert [name for name in found if name[0] != "label"] == [
        ("shop__n_1d", "nulls"), (MERCHANT, "nulls"), (MERCHANT, "unseen"), ("shop__since_1d", "nulls"),
    ]  # fmt: skip
    assert [name for name, each in found.items() if each.out] == marked
    assert found["shop__since_1d", "nulls"].lately == 0


def test_the_largest_categories_of_a_day_are_counted_and_the_others_are_one(tmp_path: Path) -> None:
    many = MOST_CATEGORIES + 50
    log = scene(
        tmp_path, lambda day, number: f"m{number % many}" if day else "m0", lambda day: many + 30 if day == 1 else 1
    )
    served = counted(log).categories(MODEL).filter(pl.col("column") == 1)
    day = served.filter(pl.col("__day") == FIRST + 1)
    assert (day.height, day["rows"].sum()) == (MOST_CATEGORIES + 1, many + 30)
    assert day.filter(pl.col("category") == OTHER)["rows"].to_list() == [50]
    assert sorted(day.filter(pl.col("category") != OTHER)["rows"].to_list(), reverse=True)[:31] == [2] * 30 + [1]
    assert served.filter(pl.col("__day") == FIRST)["rows"].to_list() == [1]
    assert not served["column"].is_in([0, 2]).any()


def test_a_vector_with_another_number_of_texts_counts_as_one_without_texts(tmp_path: Path) -> None:
    log = scene(tmp_path, usual)
    sale = Sale(0, "s", utc_datetime(NOW_US - 1))
    write(log, VECTORS, [msgspec.structs.replace(vector(sale, [1.0, "a", None]), texts=["a"])])
    days, rows, nulls = counted(log).of(MODEL)
    assert (days[-1], rows[-1]) == (FIRST + DAYS - 1, A_DAY + 1)
    np.testing.assert_array_equal(nulls[-1], [0, 1, 1])


def test_the_items_of_a_list_are_counted_and_a_text_that_is_no_list_counts_nothing() -> None:
    lists = FeatureView("shop", Entity("shop"), shop.streams[0], ["1d"], {"last": LastN("merchant", 3, as_list=True)})
    model = replace(MODEL, features=FeatureService("shops", [lists]))
    vectors = {"model": MODEL.name, "service": model.features.version, "is_doubtful": False, "width": 1, "day": FIRST}
    texts = ['["a","b","a"]', "[]", None, '["b"]', "[3]", "a"]
    own = pl.DataFrame([{**vectors, "values": [None], TEXTS: [text]} for text in texts]).cast({"width": pl.UInt32})
    counted = ServedCategories({MODEL.name: model})
    counted.replace(FIRST, FIRST + 1, 0, [counted.counted(own)])
    wanted = pl.DataFrame({"category": pl.Series(["a", "b"]).hash(), "rows": pl.Series([2, 2], dtype=pl.UInt32)})
    assert counted.of(model).select("category", "rows").sort("category").equals(wanted.sort("category"))
