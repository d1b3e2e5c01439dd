"""Runs the HTTP server of a project, as `headrace serve` does."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from headrace.app.local.address_watch import watch_addresses
from headrace.app.processes.connections import client_options, redis_address
from headrace.app.terminal.logs import configure_logs
from headrace.base.stopping import end_with_parent
from headrace.base.times import SECOND, duration_us
from headrace.errors import SettingsError, require

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic import SecretStr

    from headrace.app.project.settings import HttpSettings, Settings
    from headrace.serving.http import HttpOptions, TlsFiles

logger = structlog.get_logger(__name__)
_GRACE = timedelta(seconds=3)
_READING_S = 10.0
"""The seconds that a client may take to read its answer."""
_SERVICE_CACHE = "1s"
"""The time for which a service's views are reused. Otherwise it would be half of the reads of small look-ups."""


def run(settings: Settings, log_level: str) -> None:
    """Serve until a signal arrives. Raises SettingsError, and MissingExtraError without the extra ``http``."""
    for module in ("starlette", "uvicorn", "prometheus_client"):
        require(module, "http")
    from headrace.serving.http import ConnectionLimits
    from headrace.serving.http.server import KEEP_ALIVE_S, ServerOptions, serve  # comes with headrace[http]

    own = settings.http
    of_client = {**client_options(settings), "cache": own.cache, "pool_size": own.pool_size}
    client = redis_address(settings), settings.namespace, of_client
    watch_addresses(settings)
    make = partial(make_application, client, options(own, settings.root), log_level)
    deadline_s = duration_us(own.deadline) / SECOND
    where = ServerOptions(
        own.host,
        own.port,
        own.workers,
        grace=timedelta(seconds=max(deadline_s, KEEP_ALIVE_S)) + _GRACE,
        tls=_tls(own, settings.root),
        limits=ConnectionLimits(
            own.head_limit, own.head_timeout, own.connection_limit, timedelta(seconds=deadline_s + _READING_S)
        ),
    )
    logger.info("serving", host=own.host, port=own.port, workers=own.workers, tls=where.tls is not None)
    serve(make, where)


def make_application(client: tuple[str, str, dict[str, Any]], http: HttpOptions, log_level: str) -> Any:
    """Make the application of one process. ``client`` has Redis' address, the namespace, and the client's options."""
    from headrace.serving.async_features import AsyncFeatureClient
    from headrace.serving.http import application

    end_with_parent()
    configure_logs(log_level)
    redis_url, namespace, more = client
    look_ups = AsyncFeatureClient.from_url(redis_url, namespace, service_cache=_SERVICE_CACHE, **more)
    return application(look_ups, http, within=look_ups)


def options(http: HttpSettings, root: Path) -> HttpOptions:
    """Return the keys and limits. Raises SettingsError if the file of keys cannot be read or has no key."""
    from headrace.serving.http import HttpOptions, RequestLimits

    limits = RequestLimits(http.body_limit, http.entity_limit, http.key_limit, http.deadline)
    return HttpOptions(tuple(http.services), secrets_of(http.api_key, root, http.api_key_file, "http.api_key"), limits)


def secrets_of(own: SecretStr | None, root: Path, file: Path | None, setting: str) -> tuple[str, ...]:
    """Return the secrets of which a request must have one: the one of a setting, and those of its file.

    Raises SettingsError if the setting is empty, or if the file cannot be read or has none.
    """
    found = [] if own is None else [own.get_secret_value()]
    if file is not None:
        found += _lines_of(root / file, setting)
    if not all(found):
        raise SettingsError(f"{setting} is empty: set a key, or do not set it at all")
    return tuple(found)


def _lines_of(file: Path, setting: str) -> list[str]:
    try:
        lines = [line.strip() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{setting}_file {file} cannot be read: {type(error).__name__}") from error
    keys = [line for line in lines if line and not line.startswith("#")]
    if not keys:
        raise SettingsError(f"{setting}_file {file} has no key: write one key a line")
    return keys


def _tls(http: HttpSettings, root: Path) -> TlsFiles | None:
    from headrace.serving.http import TlsFiles

    if http.tls_certificate is None and http.tls_key is None and http.tls_client_ca is None:
        return None
    if http.tls_certificate is None or http.tls_key is None:
        raise SettingsError("TLS needs both http.tls_certificate and http.tls_key; one of them is not set")
    password = None if http.tls_key_password is None else http.tls_key_password.get_secret_value()
    client_ca = None if http.tls_client_ca is None else root / http.tls_client_ca
    return TlsFiles(root / http.tls_certificate, root / http.tls_key, client_ca, password)
