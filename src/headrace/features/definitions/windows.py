"""Windows and their tiles: sliding, tumbling and lifetime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import SECOND, Duration, duration_us, format_duration
from headrace.errors import DefinitionError

MOST_TILES = 60
"""The largest number of tiles in a window whose tile size follows from its length."""
MOST_OLD_TILES = 1_000
"""The largest number of tiles from now back to the beginning of a window."""
_FRIENDLY = [duration_us(size) for size in (
    "1s", "2s", "5s", "10s", "15s", "20s", "30s", "1m", "2m", "5m", "10m", "15m", "20m", "30m",
    "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "2d", "5d", "7d", "10d", "30d",
)]  # fmt: skip
_EVER_US = 2**61
"""73,000 years."""


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window: its length, the size of its tiles, and the time between its end and now, in microseconds."""

    name: str
    length_us: int
    tile_us: int
    lag_us: int | UnsetType = UNSET

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
    Raises DefinitionError if no round size divides the window and its lag.
    """
    sizes = [size for size in _FRIENDLY if window_us > 0 and window_us % size == lag_us % size == 0]
    found = next((size for size in sizes if window_us // size <= MOST_TILES), sizes[-1] if sizes else None)
    if found is not None and (window_us + lag_us) // found <= MOST_OLD_TILES:
        return found
    lagging = f" and its lag of {format_duration(lag_us)} do" if lag_us else " does"
    message = (
        f"a window of {format_duration(window_us)}{lagging} not divide into at most {MOST_OLD_TILES:,} tiles of a "
        f"round size ({', '.join(format_duration(size) for size in _FRIENDLY)}): choose a rounder window"
    )
    raise DefinitionError(message)


def _lagging(window: WindowSpec, lag: Duration | None) -> WindowSpec:
    """Return the window as it was ``lag`` ago. Raises DefinitionError."""
    lag_us = 0 if lag is None else duration_us(lag)
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
        length = duration_us(self.length)
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
        length, lag = duration_us(self.length), 0 if self.lag is None else duration_us(self.lag)
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


Window = Duration | Sliding | Tumbling | Lifetime
"""A duration is the length of a sliding window whose tile size follows from it."""


def window_spec(window: Window) -> WindowSpec:
    """Return a window as data: name, length and tile size. Raises DefinitionError."""
    if isinstance(window, Sliding | Tumbling | Lifetime):
        return window.spec
    length = duration_us(window)
    return WindowSpec(name=format_duration(length), length_us=length, tile_us=tile_size(length))
