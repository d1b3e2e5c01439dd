"""What can be chosen of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class RequestLimits:
    """What one request may cost: bytes of its body, entities, and seconds until it is answered one way or the other.

    ``keys`` bounds its entities times the views that it names.
    """

    body_bytes: int = 1 << 20
    entities: int = 1_000
    keys: int = 10_000
    deadline_s: float = 2.0


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM: the certificate with its chain, its key, and whose certificates clients must have (None: none)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HttpOptions:
    """Who may ask what.

    ``services`` are those whose views may be asked by name alone, and without which the server is not ready.
    ``api_keys``: any one of them is asked for with each request; none: everybody may ask.
    """

    services: Sequence[str] = ()
    api_keys: Sequence[str] = field(default=(), repr=False)
    limits: RequestLimits = RequestLimits()
