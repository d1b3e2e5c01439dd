"""The options of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.base.times import Duration


@dataclass(frozen=True)
class RequestLimits:
    """The limits of a request: the bytes of its body, its entities, and the time until it is answered.

    ``keys`` limits the number of its entities times the number of views that it names.
    """

    body_bytes: int = 1 << 20
    entities: int = 1_000
    keys: int = 10_000
    deadline: Duration = "2s"


@dataclass(frozen=True)
class ConnectionLimits:
    """The limits of a connection: the bytes of a request's head, the time until a head has come, and their number.

    ``connections`` limits those of one process. A connection is ended if a request on it was not answered, and the
    answer read, within ``answered``.
    """

    head_bytes: int = 16 << 10
    head_timeout: Duration = "5s"
    connections: int = 1_000
    answered: Duration = "30s"


DEFAULT_LIMITS = ConnectionLimits()
"""The limits of a server that is not told others."""


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM: the certificate with its chain, its key, and the CA of the clients' certificates (None: none)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HttpOptions:
    """The options of the server: the services that it needs, the API keys, and the limits.

    The server is not ready until the store has each of ``services``. A request must carry one of ``api_keys``. If
    there are no keys, everybody may ask.
    """

    services: Sequence[str] = ()
    api_keys: Sequence[str] = field(default=(), repr=False)
    limits: RequestLimits = RequestLimits()
