"""The features, computed from rows in memory: no Kafka, no Redis."""

from datetime import UTC, datetime, timedelta

import pytest
from streams.payments import Payment, Refund

from features.views import bursts, card_risk, shop, spending
from headrace.testing import Record, fold

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def paid(number: int, amount: float, at: datetime = NOON) -> Payment:
    return Payment(payment_id=number, card="c7", merchant="m1", amount=amount, paid_at=at)


def test_a_refund_takes_its_payment_back():
    refund = Refund(
        payment_id=2, card="c7", merchant="m1", amount=30.0, paid_at=NOON + MINUTE, refunded_at=NOON + 60 * MINUTE
    )
    rows = [paid(1, 20.0), paid(2, 30.0, NOON + MINUTE), refund]
    found = fold(spending, rows, at=[NOON + 30 * MINUTE, NOON + 90 * MINUTE])
    assert found.column("spending__spent_1d") == [50.0, 20.0]
    assert found.column("spending__payments_1d") == [2, 1]


def test_a_payment_that_is_sent_twice_counts_once():
    found = fold(bursts, [paid(1, 20.0), Record(paid(1, 20.0), timestamp=NOON + 5 * MINUTE), paid(2, 5.0)])
    assert found["bursts__payments_10m"] == 2
    assert found["bursts__largest_10m"] == 20.0
    assert found.verdicts == {"accepted": 2, "duplicate": 1}


def test_large_payments_of_a_shop_are_a_share():
    found = fold(shop, [paid(1, 20.0), paid(2, 150.0)])
    assert found["shop__large_share_1d"] == 0.5


def test_an_amount_is_compared_with_the_usual_one_of_the_card():
    entity = {"card": "c7", "merchant": "m1"}
    found = fold(card_risk, {"shop.payments": [paid(1, 20.0), paid(2, 40.0)]}, entity=entity, request={"amount": 90.0})
    assert found["times_the_usual"] == pytest.approx(3.0)
