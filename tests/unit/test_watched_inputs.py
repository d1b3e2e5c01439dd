"""Watched inputs: nulls, unseen categories and the label, in the newest days and in those before."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET

from headrace.app import operators
from headrace.base.times import utc_datetime
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.errors import OfflineStoreUnavailableError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.aggregates import Count
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.models.manifest import TimeSpan
from headrace.models.model_event_log import MemoryModelEventLog
from headrace.models.predictions import ServedVector
from headrace.trainers.data.input_watch import InputWatch
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.data.served_nulls import ServedNulls
from headrace.trainers.definitions import Gate, Label, Model, volume
from headrace.trainers.process.trigger_consumer import TriggerConsumer
from headrace.trainers.runs.messages import DecisionRecord, RetrainRequest, RunEnded, decode
from headrace.trainers.triggers.compared_days import compared_days
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.usual_range import DailySums, usual_range
from tests.support.control_topics import DECISIONS, PREDICTIONS, RETRAIN_REQUESTS, VECTORS
from tests.support.model_events import published
from tests.support.orders_model import write

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from headrace.trainers.triggers.watched_inputs import WatchedInput

FIRST, DAYS, A_DAY = 20_000, 100, 20
NOW_US = (FIRST + DAYS) * DAY_US
BROKEN_FROM = DAYS - 7
"""What changes, changes on this day."""


class Sale(Event):
    sale_id: int
    shop: str
    price: float | None
    kind: str | None
    size: int
    sold_at: datetime


class Claim(Event):
    sale_id: int
    justified: bool
    known_at: datetime
    amount: float = 0.0


sales, claims = (
    Stream("sales", Sale, event_time="sold_at"),
    Stream("claims", Claim, event_time="known_at"),
)
shop = FeatureView("shop", entity=Entity("shop"), source=sales, windows=["1d"], features={"sales": Count()})
MODEL = Model(
    "claims",
    requests=sales,
    request_key="sale_id",
    requested_at="sold_at",
    features=FeatureService("shops", [shop]),
    request_features=["price", "kind", "size"],
    label=Label(claims, value=col("justified"), on="sale_id", within="1d"),
    train=lambda *_: None,
    first_after=100,
    triggers=volume(labels=1_000_000),
    gate=Gate("auc", holdout="14d"),
    own_event="excluded",
)


def usual(number: int, generator: np.random.Generator) -> dict[str, Any]:
    """A sale as most are."""
    del number
    return {"price": float(generator.normal()), "kind": f"k{generator.integers(4)}", "size": int(generator.integers(3))}


def scene(
    folder: Path,
    changed: Callable[[dict[str, Any]], dict[str, Any]] = lambda sale: sale,
    *,
    served: Callable[[int], float | None] = lambda _: 3.0,
    late: float = 0.3,
    rows: Callable[[int], int] = lambda _: A_DAY,
) -> EventLog:
    """A log of sales, claims and vectors. The newest days are ``changed``, and so many claims of them are justified."""
    log, generator = EventLog(folder), np.random.default_rng(4)
    bought: list[Sale] = []
    known: list[Claim] = []
    for number in range(DAYS):
        for at in np.sort(generator.integers(0, DAY_US, rows(number))).tolist():
            sale = usual(number, generator)
            sale = changed(sale) if number >= BROKEN_FROM else sale
            us, share = (FIRST + number) * DAY_US + at, late if number >= BROKEN_FROM else 0.3
            bought.append(Sale(sale_id=len(bought), shop="s", sold_at=utc_datetime(us), **sale))
            known.append(Claim(len(known), bool(generator.random() < share), utc_datetime(us + DAY_US // 2)))
    write(log, sales, bought)
    write(log, claims, known)
    write(log, VECTORS, [vector(each, served) for each in bought])
    log.create(PREDICTIONS)
    return log


def vector(sale: Sale, served: Callable[[int], float | None], **changes: Any) -> ServedVector:
    number = int(sale.sold_at.timestamp()) // 86_400 - FIRST
    found = ServedVector(
        vector_id=str(sale.sale_id), model=MODEL.name, key=str(sale.sale_id), requested_at=sale.sold_at,
        served_at=sale.sold_at, service=MODEL.features.version, values=[served(number)], statuses='{"shop":"present"}',
        offsets="{}", request="{}",
    )  # fmt: skip
    return msgspec.structs.replace(found, **changes)


def looked(log: EventLog, of: Model = MODEL, excluded: Sequence[TimeSpan] = ()) -> dict[tuple[str, str], WatchedInput]:
    own = ModelLog(of, log)
    own.evidence(NOW_US, None)
    found = InputWatch(of, own, ServedNulls(log, {of.name: of})).look(NOW_US + 5, excluded)
    return {(each.input, each.what): each for each in found}


def out(found: dict[tuple[str, str], WatchedInput]) -> list[tuple[str, str]]:
    return [name for name, each in found.items() if each.out]


WATCHED = [
    ("price", "nulls"), ("kind", "nulls"), ("kind", "unseen"), ("size", "nulls"), ("size", "unseen"),
    ("shop__sales_1d", "nulls"), ("label", "nulls"), ("label", "rate"),
]  # fmt: skip


def test_features_and_label_are_compared_with_the_days_before_and_nothing_is_marked_where_nothing_changes(
    tmp_path: Path,
) -> None:
    found = looked(scene(tmp_path))
    assert list(found) == WATCHED
    assert out(found) == []
    rate = found["label", "rate"]
    assert rate.before is not None
    assert rate.low is not None
    assert rate.high is not None
    assert 0.25 < rate.before < 0.35
    assert rate.low < rate.lately < rate.high
    assert [each.lately for name, each in found.items() if name != ("label", "rate")] == [0.0] * 7


@pytest.mark.parametrize(
    ("how", "marked"),
    [
        ({"changed": lambda sale: sale | {"price": None}}, [("price", "nulls")]),
        ({"changed": lambda sale: sale | {"kind": None}}, [("kind", "nulls")]),
        ({"changed": lambda sale: sale | {"kind": "new"}}, [("kind", "unseen")]),
        ({"changed": lambda sale: sale | {"size": 77}}, [("size", "unseen")]),
        ({"served": lambda number: None if number >= BROKEN_FROM else 1.0}, [("shop__sales_1d", "nulls")]),
        ({"served": lambda number: float("nan") if number >= BROKEN_FROM else 1.0}, [("shop__sales_1d", "nulls")]),
        ({"late": 1.0}, [("label", "rate")]),
    ],
)
def test_an_input_that_breaks_for_a_week_is_marked_and_no_other(
    tmp_path: Path, how: dict[str, Any], marked: list[tuple[str, str]]
) -> None:
    assert out(looked(scene(tmp_path, **how))) == marked


def test_one_bad_day_is_no_mark(tmp_path: Path) -> None:
    found = looked(scene(tmp_path, served=lambda number: None if number == DAYS - 1 else 1.0))
    assert found["shop__sales_1d", "nulls"].lately > 0.05
    assert out(found) == []


@pytest.mark.parametrize(
    "rows",
    [
        lambda number: 2 if number >= DAYS - 14 else A_DAY,
        lambda number: 200 if number >= DAYS - 14 else A_DAY,
        lambda number: 0 if number % 7 > 4 else A_DAY,
        lambda number: 1 if number % 7 > 4 and number >= DAYS - 14 else A_DAY,
    ],
    ids=["a tenth", "tenfold", "closed at weekends", "nearly closed at weekends"],
)
def test_traffic_that_changes_is_no_mark(tmp_path: Path, rows: Callable[[int], int]) -> None:
    assert out(looked(scene(tmp_path, rows=rows))) == []


def test_a_number_with_many_values_is_no_category(tmp_path: Path) -> None:
    found = looked(scene(tmp_path), replace(MODEL, request_features=["sale_id"]))
    assert ("sale_id", "nulls") in found
    assert ("sale_id", "unseen") not in found


def test_excluded_days_do_not_count(tmp_path: Path) -> None:
    log = scene(tmp_path, served=lambda number: None if number >= BROKEN_FROM else 1.0)
    span = TimeSpan(from_us=(FIRST + BROKEN_FROM) * DAY_US + 7, to_us=NOW_US, reason="an outage")
    found = looked(log, excluded=[span])
    assert out(found) == []
    assert found["shop__sales_1d", "nulls"].lately == 0


def test_too_few_days_are_no_judgement(tmp_path: Path) -> None:
    found = looked(scene(tmp_path, rows=lambda number: A_DAY if number >= 60 else 0, late=1.0))
    assert out(found) == []
    assert {(each.days, each.before, each.lacking) for each in found.values() if each.input == "price"} == {
        (26, None, "26 of 42 days before")
    }


def test_vectors_of_other_features_and_doubtful_ones_do_not_count(tmp_path: Path) -> None:
    log = scene(tmp_path)
    sale = Sale(0, "s", 1.0, "k", 1, utc_datetime(NOW_US - 1))
    changes: list[dict[str, Any]] = [
        {"service": "another"}, {"statuses": '{"shop":"stale"}'}, {"model": "another"}, {"values": []},
    ]  # fmt: skip
    write(log, VECTORS, [vector(sale, lambda _: None, **each) for each in changes])
    assert looked(log)["shop__sales_1d", "nulls"].lately == 0
    assert looked(log, replace(MODEL, on_stale="keep"))["shop__sales_1d", "nulls"].lately > 0


def test_vectors_of_another_number_of_values_do_not_count_and_hold_up_no_other(tmp_path: Path) -> None:
    log = scene(tmp_path)
    wanted = looked(log)
    for day in (1, 40):  # days that are read in one piece with others, and in another one
        sale = Sale(0, "s", 1.0, "k", 1, utc_datetime(NOW_US - day * DAY_US))
        write(
            log, VECTORS, [vector(sale, lambda _: None, values=[None, None]), vector(sale, lambda _: None, values=[])]
        )
    assert looked(log) == wanted


def test_vectors_that_are_logged_after_their_day_count_on_the_next_one(tmp_path: Path) -> None:
    log, names = scene(tmp_path), {MODEL.name: MODEL}
    counted = ServedNulls(log, names)
    assert counted.count(FIRST + DAYS)
    sale = Sale(0, "s", 1.0, "k", 1, utc_datetime(NOW_US - 1))
    write(log, VECTORS, [vector(sale, lambda _: None)])
    assert counted.count(FIRST + DAYS)
    assert counted.of(MODEL)[2].sum() == 0
    assert counted.count(FIRST + DAYS + 1)
    anew = ServedNulls(log, names)
    assert anew.count(FIRST + DAYS + 1)
    for one, other in zip(counted.of(MODEL), anew.of(MODEL), strict=True):
        np.testing.assert_array_equal(one, other)
    assert counted.of(MODEL)[2].sum() == 1


def test_a_log_without_vectors_has_the_other_inputs(tmp_path: Path) -> None:
    log = EventLog(tmp_path)
    write(log, sales, [Sale(0, "s", None, "k", 1, utc_datetime(NOW_US - 2 * DAY_US))])
    log.create(claims)
    assert ServedNulls(log, {MODEL.name: MODEL}).count(FIRST + DAYS)
    log.create(VECTORS)
    log.create(PREDICTIONS)
    assert {name for name, _ in looked(log)} == {"price", "kind", "size", "label"}
    assert out(looked(log)) == []


def test_numbers_beyond_all_bounds_are_left_out(tmp_path: Path) -> None:
    """A record with them could not be read."""
    of = replace(
        MODEL,
        label=replace(MODEL.label, value=col("amount")),
        gate=Gate("rmse", holdout="14d"),
        triggers=volume(labels=9),
    )
    log, at = EventLog(tmp_path), NOW_US - 3 * DAY_US
    write(log, sales, [Sale(0, "s", 1.0, "k", 1, utc_datetime(at))])
    write(log, claims, [Claim(0, justified=True, known_at=utc_datetime(at + 1), amount=1e200)])
    log.create(VECTORS)
    log.create(PREDICTIONS)
    found = looked(log, of)
    assert ("label", "nulls") in found
    assert ("label", "mean") not in found


# -- in decisions ----------------------------------------------------------------------------------------------------


class Sent:
    """What a consumer sends."""

    def __init__(self) -> None:
        self.records: list[DecisionRecord] = []
        self.requests: list[RetrainRequest] = []

    def __call__(self, topic: str, _key: bytes, value: bytes) -> None:
        if topic == DECISIONS:
            self.records.append(decode(value, DecisionRecord))
        elif topic == RETRAIN_REQUESTS:
            self.requests.append(decode(value, RetrainRequest))


def consumer(log: EventLog, of: Model = MODEL) -> tuple[TriggerConsumer, Sent]:
    events, sent = MemoryModelEventLog(), Sent()
    events.append(msgspec.structs.replace(published("live", 1, expects=None), model=of.name))
    return TriggerConsumer([of], log, events, sent), sent


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> EventLog:
    return scene(tmp_path_factory.mktemp("broken"), lambda sale: sale | {"price": None})


def test_a_marked_input_is_in_the_reason_of_a_decision_and_asks_for_no_run(broken: EventLog) -> None:
    triggers, sent = consumer(broken)
    for minute in range(3):
        triggers.tick(NOW_US + minute)
    (record,) = sent.records
    assert sent.requests == []
    assert record.decision is not None
    assert not record.decision.fired
    volume_, _, said = record.reason.partition("; ")
    assert volume_ == "1,980 of 1,000,000 matured labels since the beginning"
    assert said.startswith("out of range: price 50.00% null, before 0.00%, by chance 0.00% to ")
    assert record.watched
    assert record.watched.rules is UNSET  # the rules were evaluated in any case
    assert [(each.input, each.what) for each in record.watched.inputs] == WATCHED
    found = record.decision
    assert MODEL.policy.judge(found.state, found.t_us, found.inputs) == found


def test_all_inputs_are_recorded_once_a_day(broken: EventLog) -> None:
    triggers, sent = consumer(broken)
    for hour in range(48):
        triggers.tick(NOW_US + hour * DAY_US // 24)
    later = NOW_US + DAY_US + DAY_US // 24  # in the first hour of a day, for each model at another time
    assert [each.t_us for each in sent.records if each.watched] == [NOW_US, later]
    assert all("out of range: price" in each.reason for each in sent.records)


def test_a_marked_input_opens_an_evaluation_of_rules_that_are_held_and_nothing_follows_from_it(
    broken: EventLog,
) -> None:
    of = replace(MODEL, triggers=volume(labels=100), cooldown="30d")
    triggers, sent = consumer(broken, of)
    ended = RunEnded(
        request_id="r1", model=of.name, outcome="published", reason="", rule="volume", t_us=NOW_US - DAY_US,
        matured_labels=0,
    )  # fmt: skip
    triggers.run_ended(ended)
    triggers.tick(NOW_US)
    record = sent.records[-1]
    assert record.watched
    assert record.watched.rules
    assert [(each.rule, each.fired) for each in record.watched.rules] == [("volume", True)]
    assert record.decision is not None
    assert (record.decision.rule, record.decision.fired, record.decision.request) == ("cooldown", False, None)
    assert sent.requests == []
    told = operators.explain(of, sent.records)
    assert told["watched"]["rules"][0]["rule"] == "volume"
    assert [(each["input"], each["out"]) for each in told["watched"]["inputs"][:2]] == [
        ("price", True),
        ("kind", False),
    ]


def test_a_model_without_a_version_has_no_watched_inputs(broken: EventLog) -> None:
    sent = Sent()
    TriggerConsumer([MODEL], broken, MemoryModelEventLog(), sent).tick(NOW_US)
    assert [each.watched for each in sent.records] == [UNSET]


def test_an_error_of_the_watch_is_no_error_of_the_rules(broken: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bool:
        raise ValueError("boom")

    monkeypatch.setattr(ServedNulls, "count", fail)
    triggers, sent = consumer(broken)
    triggers.tick(NOW_US)
    assert [(each.kind, each.watched) for each in sent.records] == [("evaluated", UNSET)]


def test_a_store_that_does_not_answer_is_asked_again(broken: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Exception | bool] = [OfflineStoreUnavailableError("away"), False, True]

    def count(*_: object) -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(ServedNulls, "count", count)
    triggers, sent = consumer(broken)
    for minute in range(4):
        triggers.tick(NOW_US + minute * 60_000_000)
    assert [bool(each.watched) for each in sent.records] == [False, True]


# -- the range that chance may make ----------------------------------------------------------------------------------


def alike_days(generator: np.random.Generator, days: int, correlation: float) -> np.ndarray:
    """A level for each day that tells of the next one, and does not drift."""
    level = generator.normal(size=days)
    for at in range(1, days):
        level[at] = correlation * level[at - 1] + np.sqrt(1 - correlation**2) * level[at]
    return level


def shares(world: str, generator: np.random.Generator, days: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of each day, and the share of nulls that is to be expected."""
    number, rows = np.arange(days), np.full(days, 300)
    if world == "bad days":
        return rows, np.where(generator.random(days) < 0.02, 0.5, 0.001)
    if world == "traffic":
        rows = np.where(number // 60 % 2, 3_000, 30)
    level = 0.4 * alike_days(generator, days, 0.5 if world == "alike" else 0.0) + 1.5 * (number % 7 > 4)
    return rows, 1 / (1 + np.exp(1 - level))


@pytest.mark.long
@pytest.mark.parametrize("world", ["alike", "bad days", "traffic"])
def test_the_inputs_of_a_model_are_out_of_range_once_a_year_at_most_by_chance(world: str) -> None:
    """One of four inputs, judged each day of four years."""
    inputs, years, compared, marks = 4, 4, 126, 0
    for seed in range(years):
        generator = np.random.default_rng([seed, 8])
        rows, share = shares(world, generator, 365 + compared)
        hits = generator.binomial(rows, share)
        for until in range(compared, len(rows)):
            newest = np.arange(until - compared, until)
            sums = DailySums.of_share(newest, rows[newest], hits[newest])
            days = compared_days(newest, until_day=until, sample_days=14)
            marks += usual_range(sums, days, 1 / (2 * 365 * inputs)).out
    assert marks <= 4  # 1 is allowed on average, and one mark lasts for some days
