r"""The names of places that headrace can use: folders, and the servers of Kafka. The others are refused at start.

Delta reads a path as a URL in some places: it takes ``[``, ``]``, ``|`` and ``^`` for parts of an address and stops the
process, ``\`` for ``/``, and ``%41`` for ``A``. SQLite's address ends at ``?``. Neither takes control characters, and
neither Delta nor Kafka takes a name that is not UTF-8. A folder ``_delta_log`` is a part of a table for Delta. With an
address that it cannot read, Kafka's client waits for ever.
"""

from __future__ import annotations

import re
from pathlib import Path

from headrace.base.redaction import redacted
from headrace.errors import SettingsError

_REFUSED = re.compile(r"[\x00-\x1f\x7f\[\]|^\\?]|%[0-9A-Fa-f]{2}|[\ud800-\udfff]")
_OF_DELTA = "_delta_log"
_SERVER = re.compile(
    r"(?:(?:PLAINTEXT|SSL|SASL_PLAINTEXT|SASL_SSL)://)?(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>\d+))?", re.ASCII
)
_KAFKA_PORT, _MOST_PORT = 9_092, 65_535


def check_folder_name(place: str | Path, what: str) -> None:
    """Raise SettingsError if a folder cannot be used because of a character in its absolute path. URLs pass.

    ``what`` names the folder in the error, such as "the event log".

    >>> check_folder_name("/srv/Messwerte (für alle), neu/events", "the event log")
    """
    text = str(place)
    if "://" in text:
        return
    path = str(Path(text).absolute())
    found = _REFUSED.search(path)
    misread = _OF_DELTA if _OF_DELTA in Path(path).parts else found.group() if found else None
    if misread is None:
        return
    message = (
        f"{what} cannot be in {path!r}: the name has {misread!r}, and the libraries that write there misread it. "
        "Choose a folder without control characters, [ ] | ^ \\ ? and % before two hex digits: set data_dir or "
        "event_log"
    )
    raise SettingsError(message)


def check_servers(servers: str) -> None:
    """Raise SettingsError unless each server of Kafka is a host with or without a port.

    >>> check_servers("kafka-1:9092,kafka-2:9092")
    """
    for server in servers.split(","):
        found = _SERVER.fullmatch(server.strip())
        if found is None or not 0 < int(found["port"] or _KAFKA_PORT) <= _MOST_PORT:
            message = (
                f"the address of Kafka, {redacted(servers)}, cannot be read: {redacted(server)!r} is not host:port; "
                "wanted a list such as kafka-1:9092,kafka-2:9092"
            )
            raise SettingsError(message)
