"""Runs the live page until a signal ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from headrace.app.flow.definition_graph import definition_graph_apart
from headrace.app.processes.connections import kafka_address
from headrace.app.snapshot.live_snapshot import LiveSnapshot
from headrace.errors import require

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings

logger = structlog.get_logger(__name__)
_ANSWERED = "15m"
"""Longer than a stream of snapshots: see ``SnapshotFeed``."""


def run(settings: Settings) -> None:
    """Serve the page. Raises SettingsError, and MissingExtraError without the extra ``ui``."""
    for module in ("starlette", "uvicorn", "prometheus_client"):
        require(module, "ui")
    from headrace.app.ui.application import live_page
    from headrace.serving.http import ConnectionLimits
    from headrace.serving.http.server import ServerOptions, serve

    own, graph = settings.ui, definition_graph_apart(settings)
    live = LiveSnapshot(settings, kafka_address(settings), models=graph.names("model"), streams=graph.names("topic"))
    hosts = own.hosts()
    application = live_page(live.read, graph, namespace=settings.namespace, hosts=hosts, viewers=own.viewers)
    where = ServerOptions(
        own.host,
        own.port,
        grace="1s",
        limits=ConnectionLimits(answered=_ANSWERED),
        address_from="ui.host and ui.port, or --host and --port",
    )
    live.start()
    try:
        serve(
            lambda: application,
            where,
            listens=lambda port: logger.info("the page is at", url=page_url(own.host, port), hosts=hosts),
        )
    finally:
        live.stop()


def page_url(host: str, port: int) -> str:
    """Return the address of the page for a browser.

    >>> page_url("127.0.0.1", 8765), page_url("::1", 8765)
    ('http://127.0.0.1:8765/', 'http://[::1]:8765/')
    """
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
