"""Where Kafka and Redis are, and how a feature client is to ask, from the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.app.local.lock import running
from headrace.base.times import duration_us
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings


def addresses(settings: Settings) -> tuple[str, str]:
    """Kafka's and Redis' address: those that are set, else those of the services that run on the data folder."""
    if settings.bootstrap_servers and settings.redis_url:
        return settings.bootstrap_servers, settings.redis_url
    found = running(settings.data_dir)
    if found is None or found.bootstrap_servers is None or found.redis_url is None:
        message = (
            f"no Kafka and Redis: `bootstrap_servers` and `redis_url` are not set, and no services run on "
            f"{settings.data_dir}; start them with `headrace up`"
        )
        raise SettingsError(message)
    return settings.bootstrap_servers or found.bootstrap_servers, settings.redis_url or found.redis_url


def redis_address(settings: Settings) -> str:
    """Redis' address: the one that is set, else that of the services that run on the data folder."""
    found = running(settings.data_dir)
    address = settings.redis_url or (found and found.redis_url)
    if not address:
        message = (
            f"no Redis: `redis_url` is not set, and no services run on {settings.data_dir}; start them with "
            "`headrace up`"
        )
        raise SettingsError(message)
    return address


def client_options(settings: Settings) -> dict[str, Any]:
    """What the settings tell a feature client: its clock, unless that is the wall's, and when values are stale."""
    clock = {} if settings.clock == "wall" else {"clock": "stream"}
    return {"heartbeat_bound_us": duration_us(settings.heartbeat_bound), **clock}
