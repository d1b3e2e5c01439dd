"""The options of the HTTP server."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.base.times import SECOND, duration_us

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from headrace.base.times import Duration


@dataclass(frozen=True)
class RequestLimits:
    """The largest request: bytes of its body, entities, and how long it may take until it is answered.

    ``keys`` is the largest product of its entities and the views that it names.
    """

    body_bytes: int = 1 << 20
    entities: int = 1_000
    keys: int = 10_000
    deadline: Duration = "2s"

    @cached_property
    def deadline_s(self) -> float:
        """The deadline in seconds."""
        return duration_us(self.deadline) / SECOND


@dataclass(frozen=True)
class TlsFiles:
    """Files in PEM: the certificate with its chain, its key, and the CA of the clients' certificates (None: none)."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    key_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class HttpOptions:
    """Who may ask, and for what.

    Without one of ``services`` in the store the server is not ready. A request must carry one of ``api_keys``; if
    there are none, everybody may ask.
    """

    services: Sequence[str] = ()
    api_keys: Sequence[str] = field(default=(), repr=False)
    limits: RequestLimits = RequestLimits()
