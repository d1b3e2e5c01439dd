"""Folds of given rows: what they answer, and what their errors name."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import polars as pl
import pytest

from headrace import (
    Count,
    Debezium,
    Entity,
    Event,
    FeatureService,
    FeatureView,
    Last,
    Role,
    Status,
    Stream,
    Sum,
    Table,
    TerminalError,
    after,
)
from headrace.errors import DefinitionError, EntityKeyError
from headrace.testing import Record, fold

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Payment(Event):
    card: str
    amount: float
    paid_at: datetime
    shop: str | None = None


class Refund(Event):
    card: str
    amount: float
    paid_at: datetime
    refunded_at: datetime


class Customer(Event):
    customer_id: int
    plan: str


payments = Stream("payments", Payment, event_time="paid_at")
refunds = Stream("refunds", Refund, event_time="refunded_at")
spending = FeatureView(
    "spending", Entity("card"), payments, ["1h", "1d"], {"n": Count(), "spent": Sum("amount"), "last": Last("amount")},
    max_age="2h",
)  # fmt: skip
net = FeatureView(
    "net", Entity("card"), [payments, Role(refunds, event_time="paid_at", takes_back=True)], ["1d"],
    {"n": Count(), "spent": Sum("amount")},
)  # fmt: skip


def paid(amount: Any, at: datetime = NOON, card: str = "a") -> dict[str, Any]:
    return {"card": card, "amount": amount, "paid_at": at}


def test_a_fold_answers_for_entities_and_times() -> None:
    rows = [paid(1.0), paid(2.0, NOON + HOUR), paid(4.0, NOON, "b")]
    found = fold(spending, rows, at=[NOON + HOUR, NOON])
    assert found.entities == [{"card": "a"}, {"card": "b"}]
    assert found.column("spending__spent_1d") == [3.0, 1.0, 4.0, 4.0]
    assert found.of(card="b").of(at=NOON)["spending__n_1h"] == 1
    assert found.of(card="b", at=NOON + HOUR)["spending__last_1h"] is None
    assert found.to_dicts()[0] == {"card": "a", "at": NOON + HOUR} | {
        "spending__n_1h": 1, "spending__n_1d": 2, "spending__spent_1h": 2.0, "spending__spent_1d": 3.0,
        "spending__last_1h": 2.0, "spending__last_1d": 2.0,
    }  # fmt: skip


def test_the_statuses_are_those_of_a_look_up() -> None:
    found = fold(spending, [paid(1.0)], at=[NOON - HOUR, NOON, NOON + 3 * HOUR], entity=[{"card": "a"}, {"card": "b"}])
    of_a = [found.of(card="a", at=time).status for time in found.times]
    assert of_a == [Status.MISSING, Status.PRESENT, Status.STALE]
    assert found.of(card="b", at=NOON).statuses() == {"spending": Status.MISSING}


def test_the_text_of_a_fold_has_its_rows() -> None:
    found = fold(spending, [paid(1.0)], at=[NOON + minutes * HOUR / 60 for minutes in range(12)])
    shown = repr(found).splitlines()
    assert shown[0] == repr(found.to_dicts()[0])
    assert (len(shown), shown[-1]) == (11, "… and 2 more")


def test_tables_have_types_and_times() -> None:
    found = fold(spending, [paid(1.0)], at=[NOON - HOUR, NOON], entity={"card": "a"})
    table = found.to_polars()
    assert table.schema["at"] == pl.Datetime("us", "UTC")
    assert table.schema["spending__n_1h"] == pl.Int64
    assert table["spending__last_1h"].to_list() == [None, 1.0]
    frame = found.to_pandas()
    assert str(frame["at"].dtype) == "datetime64[us, UTC]"
    assert frame["spending__last_1h"].isna().tolist() == [True, False]
    assert frame["card"].tolist() == ["a", "a"]


def test_streams_are_told_apart_by_name_or_by_the_type_of_their_events() -> None:
    refund = Refund("a", 2.0, NOON, NOON + HOUR)
    by_name = fold(net, {"payments": [paid(2.0), paid(3.0)], "refunds": [refund]})
    by_type = fold(net, [Payment("a", 2.0, NOON), Record(refund), Payment("a", 3.0, NOON)])
    assert by_name.times == [NOON + HOUR]
    assert by_name.to_dicts() == by_type.to_dicts()
    assert by_name["net__spent_1d"] == 3.0


def test_rows_of_a_table_are_versions_and_deletes() -> None:
    customers = Table("customers", Customer, key="customer_id")
    view = FeatureView("customer", Entity("customer_id", int), customers, features=["plan"])
    rows = [
        Record({"customer_id": 7, "plan": "free"}, NOON),
        Record(Customer(7, "gold"), NOON + HOUR),
        Record(None, NOON + 2 * HOUR, {"customer_id": 7}),
    ]
    found = fold(view, rows, at=[NOON, NOON + HOUR, NOON + 2 * HOUR], entity={"customer_id": 7})
    assert found.column("customer__plan") == ["free", "gold", None]
    table = pl.DataFrame({"customer_id": [7, 7], "plan": ["free", "gold"], "seen": [NOON, NOON + HOUR]})
    assert fold(view, table, available_at="seen")["customer__plan"] == "gold"
    with pytest.raises(DefinitionError, match=r"row 0 of 'customers' has no time"):
        fold(view, [Customer(7, "gold")])
    with pytest.raises(DefinitionError, match=r"row 1 of 'customers': its key is .*wanted \['customer_id'\]"):
        fold(view, [rows[0], Record(None, NOON, {"id": 7})])


def test_bytes_are_read_in_the_format_of_the_stream() -> None:
    stream = Stream("db.payments", Payment, event_time="paid_at", format=Debezium())
    view = FeatureView("spending", Entity("card"), stream, ["1h"], {"n": Count()})
    change = b'{"op": "c", "after": {"card": "a", "amount": 1.0, "paid_at": "2026-01-01T12:00:00Z"}}'
    assert fold(view, [change])["spending__n_1h"] == 1
    assert fold(view, [Payment("a", 1.0, NOON)])["spending__n_1h"] == 1
    with pytest.raises(DefinitionError, match="partly bytes"):
        fold(view, [change, Payment("a", 1.0, NOON)])


def test_a_rule_says_when_rows_are_known() -> None:
    bulk = Stream("bulk", Payment, event_time="paid_at", available_at=after("10m"))
    view = FeatureView("spending", Entity("card"), bulk, ["1h"], {"n": Count()})
    times = [NOON, NOON + timedelta(minutes=10)]
    assert fold(view, [paid(1.0)], at=times, entity={"card": "a"}).column("spending__n_1h") == [0, 1]
    found = fold(spending, [paid(1.0)], at=times, entity={"card": "a"}, available_at=after("5m"))
    assert found.column("spending__n_1h") == [0, 1]


def test_a_service_over_views_of_different_keys_needs_the_entity() -> None:
    shop = FeatureView("shop", Entity("shop"), payments, ["1h"], {"n": Count()})
    service = FeatureService("both", [spending, shop])
    for wrong in ("c", ["a", "b"], 7):
        with pytest.raises(DefinitionError, match=r"fold: entity.*; write a dict with the .* such as {'card': …}"):
            fold(spending, [paid(1.0)], entity=wrong)  # type: ignore[arg-type]
    with pytest.raises(DefinitionError, match=r"different join keys: give entity={'card', 'shop': …}"):
        fold(service, [paid(1.0)])
    found = fold(service, [paid(1.0) | {"shop": "s"}], entity={"card": "a", "shop": "s"})
    assert (found["shop__n_1h"], found["spending__n_1h"], found.status) == (1, 1, Status.PRESENT)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([paid(1.0), paid("x")], r"row 1 of 'payments' is rejected \(decode\): Expected `float`, got `str`.*amount"),
        ([paid(1.0) | {"amonut": 2}], r"row 0 of 'payments' has the field 'amonut', .* did you mean 'amount'\?"),
        ([paid(1.0, datetime(2026, 1, 1))], r"row 0 .*The time has no zone.*paid_at"),  # noqa: DTZ001
        ([Record(paid(1.0), NOON - HOUR)], r"row 0 .*\(future\): 'paid_at' lies 3600"),
        ([Refund("a", 2.0, NOON, NOON)], r"row 0 of 'payments' is Refund.*write a dict, or Payment"),
        ([paid(object())], r"row 0 of 'payments': <object .* is no value of JSON"),
        ({"paymets": []}, r"the rows are of \['paymets'\]; the views have the streams \['payments'\]"),
        (paid(1.0), r"Give one row as a list"),
        (7, r"the rows of 'payments' are a int: give a list"),
        ([], r"there are no rows: say with at="),
        (pl.DataFrame({"card": ["a"], "amount": [1.0]}), r"has no column 'paid_at'"),
        (pd.DataFrame({"card": ["a"], "amount": [1.0], "paid_at": [datetime(2026, 1, 1)]}), r"'paid_at' .* without a"),  # noqa: DTZ001
    ],
)
def test_an_error_names_the_row_and_the_field(rows: Any, message: str) -> None:
    with pytest.raises(TerminalError, match=message):
        fold(spending, rows)


def test_an_error_names_what_is_asked_for() -> None:
    found = fold(spending, [paid(1.0), paid(1.0, card="b")])
    with pytest.raises(TerminalError, match=r"2 entities and 1 times: choose one"):
        found["spending__n_1h"]
    with pytest.raises(TerminalError, match=r"no feature 'spending__n_2h': there are spending__n_1h"):
        found.column("spending__n_2h")
    with pytest.raises(TerminalError, match=r"no entity {'card': 'c'}"):
        found.of(card="c")
    with pytest.raises(TerminalError, match=r"no time 2027"):
        found.of(at=NOON.replace(year=2027))
    with pytest.raises(DefinitionError, match="has no time zone"):
        fold(spending, [paid(1.0)], at=datetime(2026, 1, 1))  # noqa: DTZ001
    with pytest.raises(EntityKeyError):
        fold(spending, [paid(1.0)], entity={"card": 7})
    for at in ("2026-01-01", ["2026-01-01"]):
        with pytest.raises(DefinitionError, match=r"fold: at='2026-01-01' is a str; write a time, such as datetime"):
            fold(spending, [paid(1.0)], at=at)  # type: ignore[arg-type]


def test_a_fold_imports_neither_pandas_nor_delta_nor_faust() -> None:
    code = "import sys, headrace.app.in_memory.memory_fold; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"pandas", "deltalake", "faust", "mlflow", "feast", "sklearn"}.isdisjoint(loaded)
