"""Durations and instants are int64 microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from headrace.base.times import Duration, duration_us, epoch_us, format_duration, utc_datetime
from headrace.errors import DefinitionError

HOUR = 3_600_000_000


@pytest.mark.parametrize(
    ("duration", "wanted"),
    [
        ("250ms", 250_000),
        ("90s", 90_000_000),
        ("5m", HOUR // 12),
        ("1h", HOUR),
        ("7d", 168 * HOUR),
        ("0s", 0),
        (timedelta(hours=1, microseconds=1), HOUR + 1),
    ],
)
def test_durations_in_microseconds(duration: Duration, wanted: int) -> None:
    assert duration_us(duration) == wanted


@pytest.mark.parametrize("wrong", ["", "5", "m", "5 m", "-5m", "1.5h", "5min", "1h30m", "5m\n"])
def test_other_texts_of_a_duration_are_refused_with_the_choices(wrong: str) -> None:
    with pytest.raises(DefinitionError, match=r"ms, s, m, h, d"):
        duration_us(wrong)


@pytest.mark.parametrize("name", ["90s", "5m", "1h", "7d", "1ms", "90m", "25h"])
def test_the_text_of_a_duration_reads_back(name: str) -> None:
    assert format_duration(duration_us(name)) == name


def test_an_instant_beyond_every_datetime_is_the_last_or_the_first_one() -> None:
    assert utc_datetime(1 << 60) == datetime.max.replace(tzinfo=UTC)
    assert utc_datetime(-(1 << 62)) == datetime.min.replace(tzinfo=UTC)


def test_the_text_of_a_duration_takes_the_largest_unit() -> None:
    assert [format_duration(duration_us(name)) for name in ("60s", "60m", "24h", "1000ms", "0s")] == [
        "1m",
        "1h",
        "1d",
        "1s",
        "0ms",
    ]


@pytest.mark.parametrize(
    ("time", "wanted"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC), -1),
        (datetime(2013, 6, 1, 2, tzinfo=timezone(timedelta(hours=2))), 1_370_044_800_000_000),
        (datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC), 253_402_300_799_999_999),
    ],
)
def test_instants_are_exact(time: datetime, wanted: int) -> None:
    assert epoch_us(time) == wanted
    assert utc_datetime(wanted) == time
