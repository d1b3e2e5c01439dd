"""The features, computed from rows in memory: no Kafka, no Redis."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from streams.payments import Merchant, Payment, Refund

from features.views import bursts, card_risk, compared, habits, handset, shop, spending, surprises, usual
from headrace.testing import Record, fold

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def paid(number: int, amount: float, at: datetime = NOON, **other: str) -> Payment:
    usual = {"card": "c7", "device": "d1", "merchant": "m1", "category": "grocery", "country": "FR", "home": "FR"}
    return Payment(payment_id=number, amount=amount, paid_at=at, **usual | other)


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
    assert found["bursts__spent_10m"] == 25.0
    assert found["bursts__largest_10m"] == 20.0
    assert found.verdicts == {"accepted": 2, "duplicate": 1}


def test_surprising_payments_of_a_card():
    """`headrace process` gives each payment its z, as of its own time; here the rows have it."""
    assert [field.name for field in compared.fields][-3:] == ["usual__mean_30d", "usual__std_30d", "z"]
    usual_ones = {"usual__mean_30d": 20.0, "usual__std_30d": 5.0}
    rows = [
        msgspec.structs.asdict(paid(number, 40.0)) | usual_ones | {"z": z} for number, z in enumerate((None, 4.0, 1.0))
    ]
    found = fold(surprises, rows)
    assert found["surprises__highest_z_1d"] == 4.0
    assert found["surprises__unusual_30d"] == 1
    assert fold(usual, [paid(1, 20.0), paid(2, 40.0)])["usual__std_30d"] == 10.0


def test_the_habits_of_a_card():
    rows = [
        paid(1, 20.0),
        paid(2, 30.0, NOON + 10 * MINUTE, merchant="m2", category="travel", country="US", device="d2"),
        paid(3, 5.0, NOON + 20 * MINUTE, merchant="m1", category="opened yesterday"),
    ]
    found = fold(habits, rows, at=NOON + 50 * MINUTE)
    assert found["habits__country_30d"] == "FR"
    assert found["habits__since_30d"] == 30 * 60
    assert found["habits__gap_30d"] == 10 * 60
    assert found["habits__abroad_30d"] == pytest.approx(1 / 3)
    assert found["habits__merchants_30d"] == 2
    assert found["habits__devices_30d"] == ["d1", "d2", "d1"]
    assert found["habits__categories_30d"] == ["opened yesterday", "travel", "grocery"]
    assert found["habits__favourite_30d"] == pytest.approx(1 / 3)
    by_category = [found[f"habits__of_{name}_30d"] for name in ("grocery", "travel", "gambling", "other")]
    assert by_category == [1, 1, 0, 1]  # an unseen category counts as another one


def test_a_device_with_many_cards():
    found = fold(handset, [paid(number, 1.0, card=f"c{number}") for number in range(5)])
    assert found["handset__cards_1h"] == 5
    assert found["handset__spent_1d"] == 5.0


def test_payments_of_a_shop_from_abroad_are_a_share():
    found = fold(shop, [paid(1, 20.0), paid(2, 150.0, country="US")])
    assert found["shop__abroad_1d"] == 0.5
    assert found["shop__mean_1h"] == 85.0


def test_a_request_is_compared_with_its_card_and_its_merchant():
    opened = NOON - timedelta(days=10)
    rows = {
        "shop.payments": [paid(1, 20.0), paid(2, 40.0, NOON + 10 * MINUTE)],
        "shop.merchants": [Merchant("m1", "grocery", "FR", opened, NOON - MINUTE)],
    }
    entity = {"card": "c7", "device": "d9", "merchant": "m1"}
    asked = {"amount": 90.0, "device": "d9", "country": "FR"}
    found = fold(card_risk, rows, at=NOON + 30 * MINUTE, entity=entity, request=asked)
    assert found["z"] == pytest.approx(6.0)
    assert found["minutes_since"] == 20.0
    assert found["known_device"] is False
    assert found["same_country"] is True
    assert found["profile__category"] == "grocery"
    assert found["shop_days"] == pytest.approx(10.0, abs=0.1)
