"""Each request has its own label and its own outcome, also if its key comes back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import polars as pl
import pytest

from headrace import Settings, training_set
from headrace.base.times import utc_datetime
from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.spec import to_document
from headrace.models.predictions import Prediction
from headrace.trainers.data.examples import ExampleBuilder, Examples
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.runs.champion_evidence import live_answers
from headrace.trainers.runs.holdout import HoldoutSplit
from headrace.trainers.runs.holdout_span import HoldoutSpan
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import Order, Return, day, model, orders, returns, vector, write

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.model_events import Published

HOUR = 1 / 24
THREE_ORDERS = [Order(7, "shop-0", 1.0, utc_datetime(day(number))) for number in (0, 10, 20)]


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """Order 7 is asked about on three days, and each time its label comes an hour later."""
    found = EventLog(tmp_path / "log")
    write(found, orders, THREE_ORDERS)
    write(found, returns, [known(number, back=number == 0) for number in (0, 10, 20)])
    for stream in (VECTORS, PREDICTIONS):
        found.create(stream)
    return found


def known(day_: float, *, back: bool) -> Return:
    return Return(7, back=back, known_at=utc_datetime(day(day_ + HOUR)))


def predicted(order: Order, score: float) -> Prediction:
    return Prediction(
        prediction_id=str(score), vector_id=str(score), model=model.name, version=1, role="live", key="7",
        requested_at=order.ordered_at, served_at=order.ordered_at, score=score,
    )  # fmt: skip


def test_a_key_that_comes_back_has_a_label_for_each_request(log: EventLog) -> None:
    assert ModelLog(model, log).labelled(day(30))["__label"].to_list() == [True, False, False]
    assert ExampleBuilder(model, log).build(day(30)).label.tolist() == [1, 0, 0]
    spine = pl.DataFrame(
        {"order_id": [7] * 3, "shop": ["shop-0"] * 3, "at": [each.ordered_at for each in THREE_ORDERS]}
    )
    settings = Settings(event_log=log.path("").rstrip("/"))
    as_given = training_set(model, spine, as_of=utc_datetime(day(30)), excluded=[], settings=settings)
    assert as_given.to_polars()["label"].to_list() == [True, False, False]


def test_a_label_that_was_known_before_the_request_is_not_its_label(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    write(log, orders, THREE_ORDERS[1:2])
    write(log, returns, [known(9.9, back=True), Return(7, back=True, known_at=utc_datetime(day(10)))])
    assert ModelLog(model, log).labelled(day(30))["__label"].to_list() == [None]  # one came at the very same time


def test_outcomes_have_the_score_of_their_own_request(log: EventLog) -> None:
    write(log, PREDICTIONS, [predicted(*each) for each in zip(THREE_ORDERS, (0.1, 0.5, 0.9), strict=True)])
    found = ModelLog(model, log).outcomes(day(30), 1, "live")
    days = [day(number) // DAY_US for number in (0, 10, 20)]
    assert found.select("key", "score", "__label", "__day").rows() == [
        ("7", 0.1, True, days[0]), ("7", 0.5, False, days[1]), ("7", 0.9, False, days[2]),
    ]  # fmt: skip


def test_the_gate_judges_a_champion_by_its_score_for_each_request(log: EventLog) -> None:
    write(log, PREDICTIONS, [predicted(*each) for each in zip(THREE_ORDERS, (0.1, 0.5, 0.9), strict=True)])
    requested = np.array([day(number) for number in (0, 10, 20)])
    held = Examples(
        pd.DataFrame({"x": [0.0] * 3}), np.array([1, 0, 0]), np.array(["7"] * 3), requested // DAY_US, requested
    )
    champion: Published = type("Champion", (), {"trained_to_us": 0})()
    outcomes = ModelLog(model, log).outcomes(day(30), 1, "live")
    assert live_answers(champion, outcomes, held).tolist() == [0.1, 0.5, 0.9]


def test_every_request_of_a_key_has_its_own_served_vector(log: EventLog) -> None:
    write(log, VECTORS, [vector(order, served) for order, served in zip(THREE_ORDERS, (1.0, 2.0, 3.0), strict=True)])
    served = replace(model, learn_from="logged")
    assert ExampleBuilder(served, log).build(day(30), "logged").frame["shop__orders_1d"].tolist() == [1.0, 2.0, 3.0]


def test_a_corrected_label_is_a_new_revision_of_the_outcome_where_the_last_label_counts(log: EventLog) -> None:
    write(log, PREDICTIONS, [predicted(THREE_ORDERS[2], 0.9)])
    write(log, returns, [Return(7, back=True, known_at=utc_datetime(day(20.5)))])
    last = replace(model, label=replace(model.label, which="last"))
    found = {which.label.which: ModelLog(which, log).outcomes(day(30), 1) for which in (model, last)}
    wanted = {"first": [(False, 1)], "last": [(True, 2)]}
    assert {which: rows.select("__label", "__revision").rows() for which, rows in found.items()} == wanted
    write(log, returns, [Return(7, back=False, known_at=utc_datetime(day(21.1)))])  # later than `within` allows
    assert ModelLog(last, log).outcomes(day(30), 1).select("__label", "__revision").rows() == wanted["last"]


def test_the_spec_of_a_label_names_which_one_counts_only_if_it_is_not_the_first() -> None:
    assert "which" not in to_document(model.label.spec)
    assert to_document(replace(model.label, which="last").spec)["which"] == "last"
    with pytest.raises(DefinitionError, match=r"which='second'; choose one of \['first', 'last'\]"):
        replace(model.label, which="second")  # type: ignore[arg-type]


def test_the_blocks_of_a_holdout_begin_with_it() -> None:
    requested = np.array([0, 1, 25, 71]) * 3_600_000_000 + 2 * DAY_US
    rows = Examples(pd.DataFrame({"x": [0.0] * 4}), np.zeros(4), np.array(["7"] * 4), requested // DAY_US, requested)
    span = HoldoutSpan.of_days(2, 5)
    assert HoldoutSplit(rows, rows, span).blocks.tolist() == [0, 0, 1, 2]
    assert HoldoutSplit(rows, rows, span, 3_600_000_000).blocks.tolist() == [0, 1, 25, 71]
    assert HoldoutSplit(rows, rows, HoldoutSpan.of_days(1, 8), 7 * DAY_US).blocks.tolist() == [0, 0, 0, 0]
