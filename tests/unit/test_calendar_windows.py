"""Windows of a calendar: days of 23 and 25 hours, midnights that do not exist, weeks, months."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.base.times import duration_us, epoch_us, utc_datetime
from headrace.base.zones import rules_version, time_zone
from headrace.errors import DefinitionError
from headrace.features.definitions.windows import Calendar, CalendarSpec, Period, WindowSpec
from headrace.features.kernel.calendar_periods import CalendarPeriods
from headrace.features.kernel.window_tiles import WindowTiles

HOUR = duration_us("1h")
ZONES = [
    "UTC", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/Sao_Paulo", "Asia/Beirut",
    "Africa/Cairo", "Australia/Lord_Howe", "Pacific/Kiritimati", "Pacific/Pago_Pago", "America/Havana",
]  # fmt: skip


def bounds(period: Period, zone: str, at: datetime, ago: int = 0) -> tuple[datetime, datetime]:
    spec = CalendarSpec(period=period, zone=zone, ago=ago)
    begin, end = CalendarPeriods(spec).bounds(np.array([epoch_us(at)]))
    return utc_datetime(int(begin[0])), utc_datetime(int(end[0]))


@pytest.mark.parametrize(
    ("zone", "noon", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, 12, tzinfo=UTC), 25),
        ("America/New_York", datetime(2026, 3, 8, 17, tzinfo=UTC), 23),
        ("America/New_York", datetime(2026, 11, 1, 17, tzinfo=UTC), 25),
        ("Australia/Lord_Howe", datetime(2026, 4, 5, 2, tzinfo=UTC), 24.5),  # half an hour
        ("America/Sao_Paulo", datetime(2018, 11, 4, 15, tzinfo=UTC), 23),  # its midnight does not exist
        ("America/Havana", datetime(2024, 11, 3, 17, tzinfo=UTC), 25),  # 00:00 to 01:00 comes twice
        ("Asia/Kolkata", datetime(2026, 3, 29, 12, tzinfo=UTC), 24),
    ],
)
def test_a_day_of_a_change_of_the_clocks_is_shorter_or_longer(zone: str, noon: datetime, hours: float) -> None:
    begin, end = bounds("day", zone, noon)
    assert (end - begin) / timedelta(hours=1) == hours
    assert bounds("day", zone, noon + timedelta(days=1), 1) == (begin, end)
    assert bounds("day", zone, noon - timedelta(days=1))[1] == begin


def test_a_week_begins_on_monday_and_a_month_on_its_first() -> None:
    at = datetime(2026, 3, 29, 23, tzinfo=UTC)  # in Berlin it is Monday, 01:00
    berlin = ZoneInfo("Europe/Berlin")
    monday = datetime(2026, 3, 30, tzinfo=berlin)
    assert bounds("week", "Europe/Berlin", at) == (monday, datetime(2026, 4, 6, tzinfo=berlin))
    assert bounds("week", "UTC", at) == (datetime(2026, 3, 23, tzinfo=UTC), datetime(2026, 3, 30, tzinfo=UTC))
    march = datetime(2026, 3, 1, tzinfo=berlin), datetime(2026, 4, 1, tzinfo=berlin)
    assert bounds("month", "Europe/Berlin", at) == march
    assert bounds("month", "UTC", datetime(2026, 1, 31, tzinfo=UTC), 11)[0] == datetime(2025, 2, 1, tzinfo=UTC)


@given(
    st.sampled_from(ZONES), st.sampled_from(["day", "week", "month"]), st.integers(0, 5),
    st.lists(st.integers(0, 2**51).map(utc_datetime), min_size=1, max_size=5),
)  # fmt: skip
def test_periods_are_as_local_dates_say(zone: str, period: Period, ago: int, moments: list[datetime]) -> None:
    spec = CalendarSpec(period=period, zone=zone, ago=ago)
    begins, ends = CalendarPeriods(spec).bounds(np.array([epoch_us(at) for at in moments]))
    for at, begin, end in zip(moments, begins.tolist(), ends.tolist(), strict=True):
        number = numbered(period, at.astimezone(time_zone(zone)).date()) - ago
        for us, expected in ((begin, number), (end - 1, number), (end, number + 1), (begin - 1, number - 1)):
            assert numbered(period, utc_datetime(us).astimezone(time_zone(zone)).date()) == expected


def numbered(period: Period, local: date) -> int:
    """The number of a period, in the order of time."""
    if period == "month":
        return local.year * 12 + local.month
    return local.toordinal() if period == "day" else (local - timedelta(days=local.weekday())).toordinal() // 7


def test_the_whole_of_time_has_periods() -> None:
    ends = np.array([epoch_us(datetime.min.replace(tzinfo=UTC)), epoch_us(datetime.max.replace(tzinfo=UTC)), -(2**62)])
    for period in ("day", "week", "month"):
        begin, end = CalendarPeriods(CalendarSpec(period=period, zone="Asia/Tokyo", ago=1)).bounds(ends)
        assert (begin < end).all()


def test_tiles_are_hours_where_midnights_are() -> None:
    sizes = {zone: Calendar("day", zone).spec.tile_us / HOUR for zone in ZONES}
    odd = {"Asia/Kolkata": 0.5, "Australia/Lord_Howe": 0.5, "Asia/Kathmandu": 0.25}
    assert sizes == dict.fromkeys(ZONES, 1.0) | odd


def test_a_window_of_a_calendar_has_the_tiles_of_its_period() -> None:
    spec = Calendar("day", "Europe/Berlin").spec
    at = epoch_us(datetime(2026, 10, 25, 20, 30, tzinfo=UTC))
    first, last = WindowTiles.from_spec(spec, 0).span(np.array([at]))
    assert (int(last[0] - first[0]) + 1, int(last[0])) == (23, at // HOUR)  # it began at 22:00
    yesterday = WindowTiles.from_spec(Calendar("day", "Europe/Berlin", ago=1).spec, 0).span(np.array([at]))
    assert (int(yesterday[0][0]), int(yesterday[1][0])) == (int(first[0]) - 24, int(first[0]) - 1)


@given(st.sampled_from(ZONES), st.sampled_from(["day", "week"]), st.integers(0, 1), st.integers(0, 2**51))
def test_no_period_reaches_beyond_what_is_kept(zone: str, period: Period, ago: int, at_us: int) -> None:
    spec = Calendar(period, zone, ago).spec
    first, last = WindowTiles.from_spec(spec, 0).span(np.array([at_us]))
    assert at_us // spec.tile_us - spec.reach_us // spec.tile_us < int(first[0]) <= int(last[0]) + 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (Calendar("year"), "the period is day, week, month"),  # type: ignore[arg-type]
        (Calendar("day", ago=-1), "ago is a whole number from 0"),
        (Calendar("day", "Europe/Nowhere"), "'Europe/Nowhere' is no time zone"),
        (Calendar("day", "../../etc/passwd"), "is no time zone"),
        (Calendar("day", "Factory"), "'Factory' is no time zone"),
        (Calendar("month", "Asia/Kathmandu"), "at most 2,000"),
        (Calendar("day", every="2d"), "of 1s to 1d"),
        (Calendar("day", every="0s"), "of 1s to 1d"),
    ],
)
def test_a_wrong_calendar_is_refused(wrong: Calendar, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        _ = wrong.spec


def test_a_spec_of_a_calendar_is_read_as_it_was_written() -> None:
    spec = Calendar("week", "America/New_York", ago=1).spec
    assert msgspec.json.decode(msgspec.json.encode(spec), type=WindowSpec) == spec
    assert spec.name == "week_new_york_ago_1"
    assert msgspec.to_builtins(spec.calendar) == {"period": "week", "zone": "America/New_York", "ago": 1}


def test_the_rules_of_zones_have_a_version() -> None:
    assert rules_version() >= "2025b"
    assert time_zone("UTC").utcoffset(None) == timedelta(0)


def test_zones_of_other_clocks_give_other_names() -> None:
    pairs = [("Etc/GMT+5", "Etc/GMT-5"), ("Australia/West", "Brazil/West"), ("Canada/Pacific", "US/Pacific")]
    names = [[Calendar("day", zone).spec.name for zone in pair] for pair in pairs]
    assert names == [
        ["day_gmt_5", "day_gmt_minus_5"],
        ["day_west", "day_brazil_west"],
        ["day_canada_pacific", "day_pacific"],
    ]
    assert Calendar("day", "America/Port-au-Prince").spec.name == "day_port_au_prince"
