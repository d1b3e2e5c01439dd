"""Serves the webhooks of a project, as `headrace ingest` does."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog

from headrace.app.processes.http_server import secrets_of
from headrace.base.times import SECOND, duration_us
from headrace.errors import SettingsError, require

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from starlette.types import ASGIApp

    from headrace.app.project.settings import Settings
    from headrace.bus.producer import EventProducer
    from headrace.bus.stream import Stream
    from headrace.serving.http.options import RequestLimits
    from headrace.streams.ingest.ingest_metrics import IngestMetrics

logger = structlog.get_logger(__name__)
_LOCAL = ("127.0.0.1", "::1", "localhost")
_READING_S, _GRACE_S = 10.0, 5.0


def tokens_of(settings: Settings) -> tuple[str, ...]:
    """Return the tokens of webhooks. Raises SettingsError if there are none and others than this machine may post."""
    own = settings.webhook
    tokens = secrets_of(own.token, settings.root, own.token_file, "webhook.token")
    if not tokens and own.host not in _LOCAL:
        raise SettingsError(
            f"webhook.host = {own.host!r} (from {settings.origin('webhook.host')}): others could post events. Set a "
            "token in the environment, HEADRACE_WEBHOOK__TOKEN, or in webhook.token_file"
        )
    return tokens


def serve_webhooks(
    settings: Settings,
    streams: Mapping[str, Stream],
    make_producer: Callable[[str], EventProducer],
    metrics: IngestMetrics,
) -> None:
    """Serve until a signal arrives. ``streams`` are those of the entries with a webhook, by the entry's name.

    ``make_producer`` gets the longest time that its calls may wait. Raises SettingsError, and MissingExtraError without
    the extra ``http``.
    """
    for module in ("starlette", "uvicorn"):
        require(module, "http")
    from headrace.serving.http import ConnectionLimits
    from headrace.serving.http.options import RequestLimits
    from headrace.serving.http.server import ServerOptions, serve

    own, tokens = settings.webhook, tokens_of(settings)
    limits = RequestLimits(own.body_limit, deadline=own.deadline)
    answered = timedelta(seconds=duration_us(own.deadline) / SECOND + _READING_S)
    where = ServerOptions(
        own.host,
        own.port,
        grace=timedelta(seconds=_GRACE_S),
        limits=ConnectionLimits(answered=answered),
        address_from="webhook.host and webhook.port",
    )
    paths = {str(entry.webhook): entry.name for entry in settings.ingest if entry.name in streams}
    logger.info("webhooks are served", host=own.host, port=own.port, paths=sorted(paths), tokens=len(tokens))
    producer = make_producer(own.deadline)
    serve(partial(_application, paths, streams, producer, limits, tokens, metrics), where)


def _application(  # noqa: PLR0917 - one call site
    paths: Mapping[str, str],
    streams: Mapping[str, Stream],
    producer: EventProducer,
    limits: RequestLimits,
    tokens: Sequence[str],
    metrics: IngestMetrics,
) -> ASGIApp:
    from headrace.serving.http.acknowledged_events import AcknowledgedEvents
    from headrace.serving.http.webhook import WebhookEndpoint, webhooks

    events = AcknowledgedEvents(producer)
    endpoints = {
        path: WebhookEndpoint(streams[name], events, limits, partial(metrics.answered, name))
        for path, name in paths.items()
    }
    return webhooks(endpoints, tokens)
