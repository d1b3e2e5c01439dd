"""Time zones, from the `tzdata` package alone: training and serving have the same rules on every machine.

Python would read the rules of the operating system first, and these are of another year on another machine.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_NO_ZONE = "Factory"
"""The name by which the database says that no zone was chosen. Its clocks are those of UTC."""
_HEADER, _COUNTS_AT, _COUNTS = 44, 20, ">6l"
"""The bytes of a header, the place of its counts, and their form."""


@lru_cache(maxsize=1024)
def time_zone(name: str) -> ZoneInfo:
    """Return a zone of the IANA database, such as ``Europe/Berlin``. Raises DefinitionError for an unknown name.

    The package has all zones from the first one on. A name is never a path of the machine.

    >>> from datetime import datetime
    >>> datetime(2026, 7, 1, tzinfo=time_zone("Europe/Berlin")).isoformat()
    '2026-07-01T00:00:00+02:00'
    """
    try:
        with _place(name).open("rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except (OSError, ValueError) as error:
        message = f"{name!r} is no time zone: write a name of the IANA database, such as 'UTC' or 'Europe/Berlin'"
        raise DefinitionError(message) from error


def _place(name: str) -> Traversable:
    parts = str(name).split("/")
    is_safe = all(part.replace("-", "").replace("_", "").replace("+", "").isalnum() for part in parts)
    is_safe = is_safe and parts != [_NO_ZONE]
    return files("tzdata").joinpath("zoneinfo", *(parts if is_safe else ["?"]))


def changes(name: str) -> list[int]:
    """Return the seconds since 1970 at which the offset of a zone changes, as far as its file lists them.

    After the last one its rule says how it goes on (RFC 8536).
    """
    content = _place(name).read_bytes()
    utc, standard, leaps, times, types, letters = struct.unpack_from(_COUNTS, content, _COUNTS_AT)
    short = times * 5 + types * 6 + letters + leaps * 8 + standard + utc  # the block for readers of 32 bits
    second = _HEADER + short
    count = struct.unpack_from(_COUNTS, content, second + _COUNTS_AT)[3]
    return list(struct.unpack_from(f">{count}q", content, second + _HEADER))


def rules_version() -> str:
    """Return the version of the zones' rules, such as ``2026b``.

    Two machines of one version agree on every local time. Upgrade the package of workers and trainers together.
    """
    import tzdata  # noqa: PLC0415 - few need it

    return str(tzdata.IANA_VERSION)
