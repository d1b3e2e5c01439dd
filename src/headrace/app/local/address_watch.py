"""Looks again where the services of a data folder are, and starts the process anew when they have moved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.app.local.lock import running
from headrace.base.background_loop import BackgroundLoop
from headrace.base.stopping import stop_signals

if TYPE_CHECKING:
    from headrace.app.local.lock import Addresses
    from headrace.app.project.settings import Settings

_LOOK_S = 2.0
logger = structlog.get_logger(__name__)


def watch_addresses(settings: Settings) -> None:
    """Let this process begin again when the services that it found on its data folder have other addresses.

    If both addresses are set, there is nothing to look at. Services that do not run, or have the addresses that they
    had, change nothing.
    """
    before = running(settings.data_dir)
    if before is None or (settings.bootstrap_servers and settings.redis_url):
        return

    def look() -> None:
        if stop_signals.asked.is_set():  # it ends, and must not begin again
            return
        now = running(settings.data_dir)
        if now is not None and has_moved(settings, before, now):
            logger.warning("the services have other addresses: starting anew", data_dir=str(settings.data_dir))
            loop.stopping.set()
            stop_signals.begin_again()

    loop = BackgroundLoop("addresses", look, pause_s=_LOOK_S)
    loop.start()


def has_moved(settings: Settings, before: Addresses, now: Addresses) -> bool:
    """Return whether an address that is not set has changed. While services start, they have no addresses."""
    kafka = None if settings.bootstrap_servers else now.bootstrap_servers
    redis = None if settings.redis_url else now.redis_url
    return (kafka or before.bootstrap_servers, redis or before.redis_url) != (
        before.bootstrap_servers,
        before.redis_url,
    )
