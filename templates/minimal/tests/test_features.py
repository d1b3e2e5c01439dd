"""The features, computed from rows in memory: no Kafka, no Redis."""

from datetime import UTC, datetime, timedelta

from features import activity, users
from headrace.testing import fold

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def click(page: str, at: datetime = NOON) -> dict[str, object]:
    return {"user": "ann", "page": page, "clicked_at": at}


def test_clicks_and_pages_are_counted():
    found = fold(activity, [click("/"), click("/shop"), click("/shop")])
    assert found["activity__clicks_10m"] == 3
    assert found["activity__pages_10m"] == 2


def test_a_click_leaves_the_short_window_and_stays_in_the_long_one():
    found = fold(users, [click("/")], at=NOON + timedelta(hours=1))
    assert found["activity__clicks_10m"] == 0
    assert found["activity__clicks_1d"] == 1
