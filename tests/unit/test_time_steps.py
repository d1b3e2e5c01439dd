"""Parts of a time in a zone on both sides of a change of clocks, in all zones, and the distance between two places."""

from __future__ import annotations

import itertools
import math
import random
from datetime import UTC, date, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest

from headrace import col, haversine
from headrace.base.times import epoch_us
from headrace.base.zones import changes, time_zone
from headrace.errors import DefinitionError
from headrace.features.definitions.expression_kinds import kind, nullable
from headrace.features.definitions.expression_tree import TIME_PARTS, check
from headrace.features.kernel.expression_numpy import to_numpy
from headrace.features.kernel.expression_polars import to_polars
from headrace.features.kernel.local_times import from_zone, in_zone
from headrace.features.kernel.masked_column import column
from tests.support.three_readings import all_alike

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGES = {
    "America/New_York": [datetime(2024, 3, 10, 7, tzinfo=UTC), datetime(2024, 11, 3, 6, tzinfo=UTC)],
    "Europe/Berlin": [datetime(2024, 3, 31, 1, tzinfo=UTC), datetime(2090, 10, 29, 1, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2024, 4, 6, 15, tzinfo=UTC), datetime(2150, 10, 3, 15, 30, tzinfo=UTC)],
    "America/Vancouver": [datetime(2026, 11, 1, 9, tzinfo=UTC)],
    "Pacific/Apia": [datetime(2011, 12, 30, 10, tzinfo=UTC)],
    "Asia/Kathmandu": [datetime(1985, 12, 31, 18, 30, tzinfo=UTC)],
    "UTC": [datetime(1970, 1, 1, tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)],
}
AROUND = [timedelta(0), timedelta(hours=1), timedelta(minutes=30), timedelta(microseconds=1), timedelta(days=1)]


@pytest.mark.parametrize("zone", CHANGES)
@pytest.mark.parametrize("part", [*sorted(TIME_PARTS), "date"])
def test_parts_of_a_time_on_both_sides_of_a_change(part: str, zone: str) -> None:
    times = [moment + sign * apart for moment in CHANGES[zone] for sign in (-1, 1) for apart in AROUND]
    local = [time.astimezone(time_zone(zone)) for time in times]
    tree = getattr(col("t"), part)(zone=zone).tree
    assert tree == [part, ["in_zone", ["col", "t"], zone]]
    wanted = [time.isoweekday() if part == "weekday" else getattr(time, part) for time in local]
    wanted = [each() if callable(each) else each for each in wanted]
    found = to_numpy(tree, {"t": column([*times, None], "datetime")}, len(times) + 1).to_list()
    if part == "date":
        found = [None if us is None else date(1970, 1, 1) + timedelta(microseconds=us) for us in found]
    assert found == [*wanted, None]
    frame = pl.DataFrame({"t": [*times, None]}, schema={"t": pl.Datetime("us", "UTC")})
    assert frame.select(to_polars(tree)).to_series().to_list() == [*wanted, None]
    all_alike([part, ["col", "t"]], {"t": "datetime"}, [(time,) for time in [*times, None]])


def test_the_clock_of_new_york_jumps() -> None:
    hour = col("t").hour(zone="America/New_York").tree
    spring = [datetime(2024, 3, 10, 6, 59, 59, 999_999, tzinfo=UTC), datetime(2024, 3, 10, 7, tzinfo=UTC)]
    autumn = [datetime(2024, 11, 3, 5, 59, 59, tzinfo=UTC), datetime(2024, 11, 3, 6, tzinfo=UTC)]
    assert to_numpy(hour, {"t": column([*spring, *autumn], "datetime")}, 4).to_list() == [1, 3, 1, 1]


def test_every_zone_has_the_offsets_of_its_file() -> None:
    names = files("tzdata").joinpath("zones").read_text("utf-8").split()
    draw = random.Random(7)
    for name in draw.sample(names, 12):
        zone = time_zone(name)
        listed = [each for each in changes(name) if each > -(10**10)]
        seconds = [draw.randrange(-(4 * 10**9), 8 * 10**9) for _ in range(30)]
        seconds += [each + apart for each in draw.sample(listed, min(20, len(listed))) for apart in (-1, 0)]
        times = [datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second) for second in seconds]
        wanted = [epoch_us(time.astimezone(zone).replace(tzinfo=UTC)) for time in times]
        assert in_zone(np.array([epoch_us(time) for time in times]), name).tolist() == wanted, name


def test_local_times_of_every_zone_are_those_of_its_rules() -> None:
    """The earlier one where clocks show a time twice, and none for a time that they skip."""
    draw = random.Random(8)
    for name in [
        "Pacific/Apia",
        "America/Juneau",
        *draw.sample(files("tzdata").joinpath("zones").read_text().split(), 8),
    ]:
        zone = time_zone(name)
        near = [datetime(1970, 1, 1) + timedelta(seconds=each) for each in changes(name) if each > -(6 * 10**9)]  # noqa: DTZ001
        times = [each + timedelta(minutes=draw.randrange(-1_500, 1_500)) for each in near[:40] for _ in range(3)]
        times += [datetime(draw.randrange(1900, 2200), 3, 9, 2, 30) for _ in range(10)]  # noqa: DTZ001
        wanted = []
        for time in times:
            in_utc = [time.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1)]
            shown = [each for each in in_utc if each.astimezone(zone).replace(tzinfo=None) == time]
            wanted.append(epoch_us(min(shown)) if shown else None)
        local = np.array([epoch_us(time.replace(tzinfo=UTC)) for time in times])
        found, there = from_zone(local, name)
        assert [value if is_time else None for value, is_time in zip(found.tolist(), there, strict=True)] == wanted, (
            name
        )


PLACES = [(0.0, 0.0), (40.64, -73.78), (51.47, -0.45), (-33.95, 151.18), (90.0, 12.0), (-90.0, 0.0), (0.0, 180.0)]


def test_a_distance_is_within_a_millimetre() -> None:
    rows = [(*a, *b) for a, b in itertools.product(PLACES, PLACES)]
    rows += [(a, b, a + 1e-5, b - 1e-5) for a, b in PLACES[:4]]
    tree = haversine(*map(col, ("a", "b", "c", "d"))).tree
    table = {name: column([row[place] for row in rows], "float") for place, name in enumerate("abcd")}
    for row, found in zip(rows, to_numpy(tree, table, len(rows)).to_list(), strict=True):
        assert found == pytest.approx(known_distance(*row), abs=1e-6), row
    all_alike(
        tree,
        dict.fromkeys("abcd", "float"),
        [*rows, (None, 0.0, 0.0, 0.0), (90.5, 0.0, 0.0, 0.0), (0.0, 361.0, 0.0, 0.0)],
    )
    assert to_numpy(
        tree, {name: column([x], "float") for name, x in zip("abcd", rows[8 + 2], strict=True)}, 1
    ).to_list() == [GOLDEN]


GOLDEN = 16013.400440586402


def known_distance(*degrees: float) -> float:
    """The angle between two unit vectors, by their cross product: it is exact for near and for opposite places."""
    (x1, y1, z1), (x2, y2, z2) = unit(*degrees[:2]), unit(*degrees[2:])
    cross = math.hypot(y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2)
    return 6371.0088 * math.atan2(cross, x1 * x2 + y1 * y2 + z1 * z2)


def unit(latitude: float, longitude: float) -> tuple[float, float, float]:
    up, along = math.radians(latitude), math.radians(longitude)
    return math.cos(up) * math.cos(along), math.cos(up) * math.sin(along), math.sin(up)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (lambda: col("t").hour(zone="New York"), "'New York' is no time zone: write a name of the IANA database"),
        (lambda: col("t").date(zone="../UTC"), "is no time zone"),
        (
            lambda: kind(col("s").hour(zone="UTC").tree, {"s": "str"}),
            "'in_zone' cannot take str in .*; it takes a datetime",
        ),
        (
            lambda: kind((col("t") - col("t")).tree, {"t": "datetime"}),
            r"'sub' cannot take .*write a.seconds_since\(b\)",
        ),
        (lambda: kind(haversine(col("s"), 1, 2, 3).tree, {"s": "str"}), "'haversine' cannot take str and int"),
        (lambda: check(["in_zone", ["col", "t"], "Mars/Olympus"]), "'Mars/Olympus' is no time zone"),
        (lambda: check(["in_zone", ["col", "t"], 3]), "is not an expression of this version"),
    ],
)
def test_mistakes_are_named(wrong: Callable[[], object], match: str) -> None:
    with pytest.raises(DefinitionError, match=match):
        wrong()


def test_kinds_of_times() -> None:
    kinds = {"t": "datetime", "d": "date"}
    assert kind(col("t").date(zone="Europe/Berlin").tree, kinds) == "date"
    assert kind(col("t").seconds_since(col("d")).tree, kinds) == "float"
    assert not nullable(col("t").hour(zone="UTC").tree, set())
    assert col("t").hour().tree == ["hour", ["col", "t"]]
