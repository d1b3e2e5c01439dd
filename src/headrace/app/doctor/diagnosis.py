"""Runs all checks, part by part. If a part does not answer, that is a finding, and the other parts are checked."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from headrace.app.doctor import clocks, duplicates, event_log, imports, ingest, kafka, learning, project, redis, schemas
from headrace.app.doctor.finding import Finding, error, ok
from headrace.app.local.services import known_addresses
from headrace.app.project.project import load_project
from headrace.base.times import SECOND, duration_us, wall_clock
from headrace.base.zones import rules_version
from headrace.errors import HeadraceError
from headrace.event_log.event_log import EventLog
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.streams.log_claims import LogClaims
from headrace.streams.worker import own_streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.bus.stream import Stream
    from headrace.features.definitions.view import FeatureView
    from headrace.trainers.definitions import Model

_START = "start them with `headrace up`, or set bootstrap_servers and redis_url"


def diagnose(settings: Settings) -> Iterator[Finding]:
    """Check the project, Redis, Kafka and the event log. Changes nothing, and raises no HeadraceError."""
    streams: list[Stream] = []
    views: list[FeatureView] = []
    models: list[Model] = []
    names: set[str] | None = None
    loaded: Project | None = None
    try:
        loaded = load_project(settings)
    except HeadraceError as failed:  # Kafka, Redis and the log can be checked all the same
        yield error("project", str(failed), "correct the definitions, or go to the folder of a project")
    else:
        streams, views = list(loaded.streams.values()), list(loaded.views.values())
        names = {*loaded.models}
        models = list(loaded.models.values()) if settings.clock == "wall" else []  # else the time is another one
    servers, url = (found := known_addresses(settings)).bootstrap_servers, found.redis_url
    logged, log = own_streams(streams, settings.namespace), EventLog(settings.event_log, namespace=settings.namespace)
    for stream in streams:
        yield from project.check_stream(stream)
    yield ok("time zones", f"rules of {rules_version()}, from the package tzdata: workers and trainers need the same")
    if loaded is not None:
        yield from _part("ingest", partial(ingest.examine, settings, loaded, servers))
    yield from _part("schemas", partial(schemas.examine, settings, streams))
    if url is None:
        yield error("redis", "its address is not known", _START)
    else:
        now_us, bound_us = wall_clock(), duration_us(settings.heartbeat_bound)
        yield from _part("redis", partial(redis.examine, url, now_us / SECOND))
        look = partial(project.check_views, views, url, settings.namespace, now_us=now_us, bound_us=bound_us)
        yield from _part("views", look)
    if servers is None:
        yield error("kafka", "its address is not known", _START)
    else:
        yield from _part("kafka", partial(kafka.examine, servers, settings.topics, logged, log))
        yield from _part("clocks", partial(clocks.examine, servers, log, logged, models, wall_clock()))
        yield from _part("learning", partial(learning.examine, servers, settings.topics, names, wall_clock()))
        yield from _part("learning", partial(_check_approvals, settings, servers, names))
    yield from _part("event log", partial(event_log.examine, log, logged))
    yield from _part("imports", partial(imports.examine, log, logged))
    yield from _part("duplicates", partial(duplicates.examine, log, streams))
    if servers is not None and url is not None:
        yield from _part("event log", partial(_check_identity, settings, log, servers, url))


def _check_identity(settings: Settings, log: EventLog, servers: str, url: str) -> Iterator[Finding]:
    with closing(RedisOnlineStore(url, settings.namespace)) as store:
        claims = LogClaims(servers, settings.namespace, store)
        yield from event_log.check_identity(log, claims)


def _check_approvals(settings: Settings, servers: str, models: set[str] | None) -> Iterator[Finding]:
    yield from learning.examine_approvals(servers, settings.topics, settings.signing, models)


def _part(subject: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except HeadraceError as failed:
        yield error(subject, str(failed), "make sure that it runs and can be reached from this machine")
