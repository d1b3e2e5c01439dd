"""Windows and their tiles: sliding, tumbling and lifetime."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import msgspec

from headrace.base.times import SECOND, Duration, duration_us, format_duration
from headrace.errors import DefinitionError

MOST_TILES = 60
_FRIENDLY = [duration_us(size) for size in (
    "1s", "2s", "5s", "10s", "15s", "20s", "30s", "1m", "2m", "5m", "10m", "15m", "20m", "30m",
    "1h", "2h", "3h", "4h", "6h", "8h", "12h", "1d", "2d", "5d", "7d", "10d", "30d",
)]  # fmt: skip
_EVER_US = 2**61
"""73,000 years."""


class WindowSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A window: its length and the size of its tiles, in microseconds."""

    name: str
    length_us: int
    tile_us: int


def tile_size(window_us: int) -> int:
    """Return the tile size of a window in microseconds: the smallest round size that makes at most 60 tiles.

    Raises DefinitionError if no round size divides the window.
    """
    for size in _FRIENDLY:
        if window_us > 0 and window_us % size == 0 and window_us // size <= MOST_TILES:
            return size
    message = (
        f"a window of {format_duration(window_us)} does not divide into at most {MOST_TILES} tiles of a round size "
        f"({', '.join(format_duration(size) for size in _FRIENDLY)}): choose a rounder window"
    )
    raise DefinitionError(message)


@dataclass(frozen=True)
class Tumbling:
    """A window that begins anew every ``length``, counted from 1970-01-01 UTC. It has one tile.

    A week begins on a Thursday, as 1970 did.

    >>> from headrace import Tumbling
    >>> Tumbling("1d").spec.name
    'tumbling_1d'
    """

    length: Duration

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named ``tumbling_<length>``. Raises DefinitionError."""
        length = duration_us(self.length)
        if length < SECOND:
            message = f"a tumbling window of {format_duration(length)} is too short: at least 1s"
            raise DefinitionError(message)
        return WindowSpec(name=f"tumbling_{format_duration(length)}", length_us=length, tile_us=length)


@dataclass(frozen=True)
class Sliding:
    """A sliding window of this ``length`` with a tile size of its own: it moves on by ``every``.

    >>> from headrace import Sliding
    >>> Sliding("1h", every="1m").spec
    WindowSpec(name='1h', length_us=3600000000, tile_us=60000000)
    """

    length: Duration
    every: Duration

    @cached_property
    def spec(self) -> WindowSpec:
        """The window as data, named by its length. Raises DefinitionError."""
        length, every = duration_us(self.length), duration_us(self.every)
        if every < SECOND or length % every or not 0 < length // every <= MOST_TILES:
            message = (
                f"a window of {format_duration(length)} that moves on every {format_duration(every)}: a window is 1 to "
                f"{MOST_TILES} whole steps of at least 1s each"
            )
            raise DefinitionError(message)
        return WindowSpec(name=format_duration(length), length_us=length, tile_us=every)


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
