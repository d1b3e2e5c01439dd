"""A real Redis that speaks TLS. The packaged Valkey cannot, so the server is that of Debian's package redis-server."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from headrace.app.local.process import free_ports
from headrace.app.local.valkey import LocalValkey
from tests.support.secured_kafka import make_certificates

if TYPE_CHECKING:
    from pathlib import Path

SERVER = shutil.which("redis-server")


class TlsRedis(LocalValkey):
    """Redis with two ports: an open one for the test itself, and one with TLS that asks clients for a certificate."""

    name = "redis"

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        [self.tls_port] = free_ports(1)
        self.ca, self.certificate, self.key = make_certificates(folder)

    def secured(self, **parameters: object) -> str:
        """The URL with TLS. ``parameters`` are redis-py's."""
        query = "&".join(f"{name}={value}" for name, value in parameters.items())
        return f"rediss://127.0.0.1:{self.tls_port}/0?{query}"

    def _command(self) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "tls-port": str(self.tls_port),
            "tls-cert-file": "server.crt",
            "tls-key-file": "server.key",
            "tls-ca-cert-file": "ca.pem",
            "tls-auth-clients": "yes",
            "maxmemory-policy": "noeviction",
        }
        return [str(SERVER), *(word for key, value in options.items() for word in (f"--{key}", value))]
