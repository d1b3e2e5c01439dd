"""Runs the application: uvicorn, in one process or several, until a signal ends it."""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.base.stopping import GRACE_S, stop_signals
from headrace.base.times import SECOND, duration_us
from headrace.errors import SettingsError
from headrace.serving.http.bounded_protocol import BoundedConfig
from headrace.serving.http.options import DEFAULT_LIMITS, ConnectionLimits
from headrace.serving.http.worker_processes import DrainingServer, WorkerProcesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp

    from headrace.base.times import Duration
    from headrace.serving.http.options import TlsFiles

_BACKLOG = 2_048
KEEP_ALIVE_S = 5
"""The seconds after which an idle connection is closed. A server that stops waits for them."""


@dataclass(frozen=True)
class ServerOptions:
    """The address of the server, its number of processes, and the time for open requests after a signal to stop.

    ``address_from`` says in errors how another address is chosen.
    """

    host: str = "127.0.0.1"
    port: int = 8_080
    workers: int = 1
    grace: Duration = "5s"
    tls: TlsFiles | None = None
    limits: ConnectionLimits = DEFAULT_LIMITS
    address_from: str = "--host and --port"


def serve(make: Callable[[], ASGIApp], options: ServerOptions, *, listens: Callable[[int], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; open requests are answered.

    ``listens`` is called with the port once connections are taken. It is another one than that of the options if
    theirs is 0.

    ``make`` is called once in each process. If there are several processes, ``make`` is pickled, and SIGHUP replaces
    the processes one by one, without a request that fails. Raises SettingsError if the address is taken or a
    certificate cannot be read.
    """
    if options.tls is not None:
        _check(options.tls)
    config = configuration(make, options)
    with _listening(options) as listener, stop_signals.calling(_stopped_already):
        if listens is not None:
            listens(listener.getsockname()[1])
        if options.workers == 1:
            DrainingServer(config).run([listener])
        else:
            with _metrics_of_all():
                WorkerProcesses(config, [listener]).run()


def _stopped_already() -> None:
    """Do nothing: uvicorn has its own handlers, and raises the signal again when it has stopped."""


def configuration(make: Callable[[], ASGIApp], options: ServerOptions) -> BoundedConfig:
    """Return the configuration of uvicorn."""
    tls = options.tls
    config = BoundedConfig(
        make,
        factory=True,
        workers=options.workers,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=int(min(duration_us(options.grace) / SECOND, GRACE_S - 1)),
        backlog=_BACKLOG,
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    config.limits = options.limits
    if tls is not None:
        config.ssl_certfile, config.ssl_keyfile = tls.certificate, tls.key
        config.ssl_keyfile_password = tls.key_password
        config.ssl_ca_certs = tls.client_ca
        config.ssl_cert_reqs = ssl.CERT_NONE if tls.client_ca is None else ssl.CERT_REQUIRED
    return config


def _check(tls: TlsFiles) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.certificate, tls.key, tls.key_password or "")
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
    except (OSError, ssl.SSLError) as error:
        message = (
            f"TLS cannot be set up from {tls.certificate}, {tls.key} and {tls.client_ca or 'no client CA'}: {error}; "
            f"see the settings http.tls_certificate, http.tls_key and http.tls_client_ca"
        )
        raise SettingsError(message) from error


@contextmanager
def _listening(options: ServerOptions) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        message = (
            f"cannot listen on {options.host}:{options.port}: {error}; choose another address with "
            f"{options.address_from}"
        )
        raise SettingsError(message) from error
    with listener:
        yield listener


@contextmanager
def _metrics_of_all() -> Iterator[None]:
    """Give one folder for counts to all processes that start in this context, so that each can read all counts."""
    with tempfile.TemporaryDirectory(prefix="headrace-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
