"""The ports of the services of a data folder: chosen once and kept, so that clients find the services again."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import msgspec
import structlog

if TYPE_CHECKING:
    import random
    from collections.abc import Container
    from pathlib import Path

_CHOICE = range(20_000, 32_000)
"""They are below the ports of clients: a client that looks for a dead server could be given the server's own port."""
_FILE = "ports.json"
logger = structlog.get_logger(__name__)


class LocalPorts(msgspec.Struct, frozen=True):
    """The ports of Kafka for clients and for its controller, and of Valkey."""

    kafka: int
    controller: int
    valkey: int


def kept_ports(folder: Path, chance: random.Random) -> LocalPorts:
    """Return the ports of the services in a folder. The first call chooses free ones and keeps them.

    A port that something else has taken meanwhile is replaced, and the new one is kept.
    """
    try:
        kept = msgspec.json.decode((folder / _FILE).read_bytes(), type=LocalPorts)
    except (OSError, msgspec.MsgspecError):
        kept = LocalPorts(0, 0, 0)
    ports: list[int] = []
    for port in msgspec.structs.astuple(kept):
        others = {*ports, *msgspec.structs.astuple(kept)}
        ports.append(port if port and port not in ports and _is_free(port) else _free(chance, others))
        if port and ports[-1] != port:
            logger.warning("a port is taken by something else", port=port, now=ports[-1])
    chosen = LocalPorts(*ports)
    if chosen != kept:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _FILE).write_bytes(msgspec.json.encode(chosen))
    return chosen


def _free(chance: random.Random, taken: Container[int]) -> int:
    while (port := chance.choice(_CHOICE)) in taken or not _is_free(port):
        pass
    return port


def _is_free(port: int) -> bool:
    """Return whether a server can listen on the port. Connections that have ended do not matter."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
