"""Windows and their tiles: sliding, tumbling, of a calendar, lifetime, the newest rows, and sessions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Annotated, Literal, get_args

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import SECOND, Duration, bounded_us, duration_us, format_duration
from headrace.base.zones import time_zone
from headrace.errors import DefinitionError

MOST_TILES = 60
"""The largest number of tiles in a window whose tile size follows from its length."""
MOST_OLD_TILES = 2_000
"""The largest number of tiles from now back to the beginning of a window."""
MOST_ROWS = 1_000
"""The largest number of rows in a window of the newest ones."""
MOST_SESSIONS = 100
"""How many sessions before the current one a window may be."""
_FRIENDLY = [duration_us(size) for size in (
    "1s", "2s", "5s", "10s", "15s", "20s", "30s", "1m", "2m", "5m", "10m", "15m", "20m", "30m",
    "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "2d", "5d", "7d", "10d", "30d",
)]  # fmt: skip
_HOUR_US, _DAY_US = duration_us("1h"), duration_us("1d")
_EVER_US = 2**61
"""73,000 years."""
ROW_US = 1
"""The size of the tiles of which each is a row. Those of other windows have a second at least."""


Period = Literal["day", "week", "month"]
_DAYS: dict[str, int] = {"day": 1, "week": 7, "month": 31}
_MOST_AGO = 1_000
_ALSO_ELSEWHERE = ("Brazil", "Canada")
"""The folders of zones whose last parts, such as ``West`` and ``Pacific``, are those of other zones too."""


class CalendarSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A period of a time zone's calendar: the current one, or the one that many periods ago."""

    period: Period
    zone: str
    ago: Annotated[int, msgspec.Meta(ge=0, le=_MOST_AGO)] = 0


class SessionSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A session of an entity: rows that follow each other within ``gap_us``, the current one or one that many before.

    A tile of the window is not longer than the gap, so that it has rows of one session only.
    """

    gap_us: Annotated[int, msgspec.Meta(ge=1)]
    ago: Annotated[int, msgspec.Meta(ge=0, le=MOST_SESSIONS)] = 0


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window: its length, the size of its tiles, and the time between its end and now, in microseconds.

    The length of a window of a ``calendar`` is the longest time from its begin to now. A window of a ``session`` finds
    it within its length. A window of ``newest_rows`` has that many within its length, and a tile for each.
    """

    name: str
    length_us: int
    tile_us: int
    lag_us: int | UnsetType = UNSET
    calendar: CalendarSpec | UnsetType = UNSET
    session: SessionSpec | UnsetType = UNSET
    newest_rows: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)] | UnsetType = UNSET

    @property
    def is_of_rows(self) -> bool:
        """True if the rows of an entity choose what is in the window, and not the time alone."""
        return self.newest_rows is not UNSET or self.session is not UNSET

    @property
    def skipped_us(self) -> int:
        """The time between the end of the window and now, in microseconds; 0 for most windows."""
        return 0 if self.lag_us is UNSET else self.lag_us

    @property
    def reach_us(self) -> int:
        """The time from the beginning of the window to now, in microseconds."""
        return self.length_us + self.skipped_us


def tile_size(window_us: int, lag_us: int = 0) -> int:
    """Return the tile size of a window in microseconds: the smallest round size that makes at most 60 tiles.

    A window that has more with each round size, such as 365d, has the largest round size, and so the fewest tiles.
    One with a long lag, such as 30m a day ago, has a larger size: its begin is at most 2,000 tiles ago. Raises
    DefinitionError if no round size divides the window and its lag into as few.
    """
    sizes = [size for size in _FRIENDLY if window_us > 0 and window_us % size == lag_us % size == 0]
    reaching = [size for size in sizes if (window_us + lag_us) // size <= MOST_OLD_TILES]
    if reaching:
        return next((size for size in reaching if window_us // size <= MOST_TILES), reaching[-1])
    lagging = f" and its lag of {format_duration(lag_us)} do" if lag_us else " does"
    message = (
        f"a window of {format_duration(window_us)}{lagging} not divide into at most {MOST_OLD_TILES:,} tiles of a "
        f"round size ({', '.join(format_duration(size) for size in _FRIENDLY)}): choose a rounder window"
    )
    raise DefinitionError(message)


def _lagging(window: WindowSpec, lag: Duration | None) -> WindowSpec:
    """Return the window as it was ``lag`` ago. Raises DefinitionError."""
    lag_us = 0 if lag is None else bounded_us(lag)
    if not lag_us:
        return window
    if lag_us % window.tile_us or (window.length_us + lag_us) // window.tile_us > MOST_OLD_TILES:
        message = (
            f"a window of {format_duration(window.length_us)} in steps of {format_duration(window.tile_us)} with a lag "
            f"of {format_duration(lag_us)}: a lag is a whole number of steps, and the window begins at most "
            f"{MOST_OLD_TILES:,} steps ago"
        )
        raise DefinitionError(message)
    return msgspec.structs.replace(window, name=f"{window.name}_lag_{format_duration(lag_us)}", lag_us=lag_us)


@dataclass(frozen=True)
class Tumbling:
    """A window that begins anew every ``length``, counted from 1970-01-01 UTC. It has one tile.

    A week begins on a Thursday, as 1970 did. With ``lag`` it is the window as it was that long ago: yesterday, or the
    same day of last week.

    >>> from headrace import Tumbling
    >>> Tumbling("1d").spec.name
    'tumbling_1d'
    >>> Tumbling("1d", lag="7d").spec.name
    'tumbling_1d_lag_7d'
    """

    length: Duration
    lag: Duration | None = None

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named ``tumbling_<length>`` or with its lag. Raises DefinitionError."""
        length = bounded_us(self.length)
        if length < SECOND:
            message = f"a tumbling window of {format_duration(length)} is too short: at least 1s"
            raise DefinitionError(message)
        window = WindowSpec(name=f"tumbling_{format_duration(length)}", length_us=length, tile_us=length)
        return _lagging(window, self.lag)


@dataclass(frozen=True)
class Sliding:
    """A sliding window of this ``length``. It moves on by ``every``, which is its tile size.

    Without ``every`` the tile size follows from the length, as for a plain duration. With ``lag`` it is the window as
    it was that long ago: ``Sliding("7d", lag="7d")`` is the week before the last seven days.

    >>> from headrace import Sliding
    >>> Sliding("1h", every="1m").spec.tile_us
    60000000
    >>> Sliding("7d", lag="7d").spec.name
    '7d_lag_7d'
    """

    length: Duration
    every: Duration | None = None
    lag: Duration | None = None

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named by its length, or by its length and lag. Raises DefinitionError."""
        length, lag = bounded_us(self.length), 0 if self.lag is None else bounded_us(self.lag)
        every = tile_size(length, lag) if self.every is None else duration_us(self.every)
        if every < SECOND or length % every or not 0 < length // every <= MOST_OLD_TILES:
            message = (
                f"a window of {format_duration(length)} that moves on every {format_duration(every)}: a window is 1 to "
                f"{MOST_OLD_TILES:,} whole steps of at least 1s each"
            )
            raise DefinitionError(message)
        return _lagging(WindowSpec(name=format_duration(length), length_us=length, tile_us=every), self.lag)


@dataclass(frozen=True)
class Lifetime:
    """All events that ever were. It has one tile for the time since 1970 and one for the time before.

    >>> from headrace import Lifetime
    >>> Lifetime().spec.name
    'lifetime'
    """

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named ``lifetime``."""
        return WindowSpec(name="lifetime", length_us=2 * _EVER_US, tile_us=_EVER_US)


@dataclass(frozen=True)
class Calendar:
    """The current day, week or month of a time zone, or with ``ago`` the whole one that many periods before.

    A week begins on Monday. A day of a change of the clocks has 23 or 25 hours. Tiles have one hour, or half or a
    quarter of one where the zone's midnight needs it; ``every`` is another tile size. If a period does not begin with a
    tile, its first tile counts as a whole.

    >>> from headrace import Calendar
    >>> Calendar("day", zone="America/New_York").spec.name
    'day_new_york'
    >>> Calendar("week", ago=1).spec.name
    'week_ago_1'
    """

    period: Period
    zone: str = "UTC"
    ago: int = 0
    every: Duration | None = None

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named by its period, the place of its zone, and how long ago. Raises DefinitionError."""
        period: object = self.period
        known = isinstance(period, str) and period in _DAYS
        if not known or type(self.ago) is not int or not 0 <= self.ago <= _MOST_AGO:
            message = (
                f"Calendar({self.period!r}, ago={self.ago!r}): the period is {', '.join(get_args(Period))}, and ago is "
                f"a whole number from 0 to {_MOST_AGO:,}"
            )
            raise DefinitionError(message)
        tile_us = _tile_of(self.zone) if self.every is None else duration_us(self.every)
        longest_us = (self.ago + 1) * _DAYS[self.period] * _DAY_US + 2 * _HOUR_US  # a change of the clocks
        tiles = -(-longest_us // tile_us) + 1 if tile_us else 0
        if tile_us < SECOND or tile_us > _DAY_US or tiles > MOST_OLD_TILES:
            size = format_duration(tile_us)
            message = (
                f"{self!r} has up to {tiles:,} tiles of {size}. A calendar window has at most {MOST_OLD_TILES:,} "
                "tiles, of 1s to 1d each: choose the size by every=, or a smaller ago"
            )
            raise DefinitionError(message)
        calendar = CalendarSpec(period=self.period, zone=self.zone, ago=self.ago)
        name = self.period + _place_of(self.zone) + (f"_ago_{self.ago}" if self.ago else "")
        return WindowSpec(name=name, length_us=tiles * tile_us, tile_us=tile_us, calendar=calendar)


def _place_of(zone: str) -> str:
    """Return the end of a window's name: the last part of the zone's, as far as no zone with other clocks has it too.

    ``Etc/GMT+5`` and ``Etc/GMT-5`` are two zones, and so are ``Australia/West`` and ``Brazil/West``.
    """
    folder, _, place = zone.rpartition("/")
    place = re.sub(r"[-+]", "_", re.sub(r"-(?=\d)", "_minus_", place))
    named = f"{folder}_{place}" if folder in _ALSO_ELSEWHERE else place
    return "" if zone == "UTC" else f"_{named.lower()}"


def _tile_of(zone: str) -> int:
    """Return the largest of an hour, half and a quarter of one that divides all offsets of the zone since 1980."""
    known, years = time_zone(zone), range(1980, 2038)
    moments = [datetime(year, month, 1, tzinfo=UTC) for year in years for month in range(1, 13)]
    offsets = {moment.astimezone(known).utcoffset() for moment in moments}
    us = [duration_us(offset) for offset in offsets if offset is not None]
    return next((size for size in (_HOUR_US, _HOUR_US // 2) if all(each % size == 0 for each in us)), _HOUR_US // 4)


@dataclass(frozen=True)
class Rows:
    """The ``n`` newest rows of an entity, however old they are, or those of them of the last ``within``.

    They are the newest by event time. A tie goes to the larger partition, then to the larger offset. A filter of a
    feature chooses among these rows. As over :class:`Lifetime`, t does not choose: a row of V counts if it is newer.

    >>> from headrace import Rows
    >>> Rows(5).spec.name
    'rows_5'
    >>> Rows(5, within="7d").spec.name
    'rows_5_within_7d'
    """

    n: int
    within: Duration | None = None

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named ``rows_<n>`` or with its limit. Raises DefinitionError."""
        length = 2 * _EVER_US if self.within is None else duration_us(self.within)
        if type(self.n) is not int or not 1 <= self.n <= MOST_ROWS or not 0 < length <= 2 * _EVER_US:
            message = (
                f"{self!r}: give a whole number of rows from 1 to {MOST_ROWS:,}, and within= as a duration longer than "
                "0, such as '7d', or not at all"
            )
            raise DefinitionError(message)
        name = f"rows_{self.n}" + ("" if self.within is None else f"_within_{format_duration(length)}")
        return WindowSpec(name=name, length_us=length, tile_us=ROW_US, newest_rows=self.n)


@dataclass(frozen=True)
class Session:
    """The current session of an entity: its rows since the last silence of ``gap``, or a session before that one.

    A silence is a time of ``gap`` or more without a row of the view. After it the current session is over: it has no
    rows until the next one comes. ``ago=1`` is then the session that has ended, and otherwise the one before the
    current. Rows that are older than ``within`` do not count; without ``within`` it is 60 times the gap.

    >>> from headrace import Session
    >>> Session("30m").spec.name
    'session_30m'
    >>> Session("30m", ago=1, within="7d").spec.name
    'session_30m_within_7d_ago_1'
    """

    gap: Duration
    ago: int = 0
    within: Duration | None = None

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named by its gap, its limit, and how many sessions ago. Raises DefinitionError."""
        gap = bounded_us(self.gap)
        if gap < SECOND or type(self.ago) is not int or not 0 <= self.ago <= MOST_SESSIONS:
            message = f"{self!r}: the gap is at least 1s, and ago is a whole number from 0 to {MOST_SESSIONS}"
            raise DefinitionError(message)
        length = bounded_us(timedelta(microseconds=MOST_TILES * gap) if self.within is None else self.within)
        tile = next((size for size in (gap, *reversed(_FRIENDLY)) if size <= gap and length % size == 0), 0)
        if not tile or not gap <= length <= tile * MOST_OLD_TILES:
            sizes = ", ".join(format_duration(size) for size in _FRIENDLY)
            message = (
                f"{self!r}: within= is not shorter than the gap, and at most {MOST_OLD_TILES:,} tiles. A tile is as "
                f"long as the gap, or shorter and of a round size that divides it ({sizes})"
            )
            raise DefinitionError(message)
        session = SessionSpec(gap_us=gap, ago=self.ago)
        name = f"session_{format_duration(gap)}" + ("" if self.within is None else f"_within_{format_duration(length)}")
        name += f"_ago_{self.ago}" if self.ago else ""
        return WindowSpec(name=name, length_us=length, tile_us=tile, session=session)


Window = Duration | Sliding | Tumbling | Calendar | Lifetime | Rows | Session
"""A duration is the length of a sliding window whose tile size follows from it."""


def window_spec(window: Window) -> WindowSpec:
    """Return a window as data: name, length and tile size. Raises DefinitionError."""
    if isinstance(window, Sliding | Tumbling | Calendar | Lifetime | Rows | Session):
        return window.spec
    length = bounded_us(window)
    return WindowSpec(name=format_duration(length), length_us=length, tile_us=tile_size(length))
