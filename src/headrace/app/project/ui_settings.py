"""The settings of the live page: the table ``[ui]``."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field, NonNegativeInt, PositiveInt

from headrace.app.project.setting_types import STRICT

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""The names of this machine for itself. A browser may always use them."""
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]")


def _host(name: str) -> str:
    """Refuse patterns, and what is no name of a host: a wide pattern lets a foreign page read the answers."""
    if not _HOST.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a host, without port: write such as status.shop.example")
    return name


class UiSettings(BaseModel):
    """The live page of `headrace ui`."""

    model_config = STRICT
    host: str = Field(
        default="127.0.0.1", description="Address that the page listens on; 0.0.0.0 for all. The page has no login."
    )
    port: NonNegativeInt = Field(default=8_765, le=65_535, description="Port that the page listens on.")
    allowed_hosts: list[Annotated[str, AfterValidator(_host)]] = Field(
        default=[], description="Names under which browsers may ask for the page, besides those of this machine."
    )
    viewers: PositiveInt = Field(default=100, description="Largest number of open pages. A further one gets 503.")

    def hosts(self) -> list[str]:
        """Return all names under which the page answers."""
        own = [] if self.host in {"0.0.0.0", "::", "127.0.0.1"} else [self.host]  # noqa: S104 - a comparison
        return [*LOOPBACK, *own, *self.allowed_hosts]
