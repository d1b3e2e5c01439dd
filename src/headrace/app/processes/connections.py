"""Finds Kafka and Redis for a process or a command, from the settings and from the services on this machine."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from headrace.app.local.lock import START_SECONDS, running
from headrace.errors import SettingsError, UnavailableError
from headrace.models.artifact_places import places_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from headrace.app.local.lock import Addresses
    from headrace.app.project.settings import Settings
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.bus.stream import Stream
    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.serving.look_up import LookUpOptions

_POLL_S = 0.2


def addresses(settings: Settings) -> tuple[str, str]:
    """Return the addresses of Kafka and of Redis.

    An address that is set is used. If one is not set, the services that run on the data folder are asked. Raises
    SettingsError if there are none, and UnavailableError if they do not start in time.
    """
    servers = settings.kafka_servers
    if servers and settings.redis_url:
        return servers, settings.redis_url
    found = started_services(settings.data_dir)
    if found is None or found.bootstrap_servers is None or found.redis_url is None:
        message = (
            f"no Kafka and Redis: `bootstrap_servers` and `redis_url` are not set, and no services run on "
            f"{settings.data_dir}; start them with `headrace up`"
        )
        raise SettingsError(message)
    return servers or found.bootstrap_servers, settings.redis_url or found.redis_url


def started_services(folder: Path) -> Addresses | None:
    """Return the services that run on a data folder, or None. If they are starting, it waits for them.

    Raises UnavailableError if that takes longer than a start may take.
    """
    found, until = running(folder), time.monotonic() + START_SECONDS
    if found is not None and found.bootstrap_servers is None:
        typer.echo(f"process {found.pid} is starting Kafka and Valkey on {folder}: waiting for them …", err=True)
    while found is not None and found.bootstrap_servers is None:
        if time.monotonic() > until:
            message = (
                f"process {found.pid} is still starting Kafka and Valkey on {folder}, after {START_SECONDS:.0f} s: try "
                "again when it says that it is ready"
            )
            raise UnavailableError(message)
        time.sleep(_POLL_S)
        found = running(folder)
    return found


def redis_address(settings: Settings) -> str:
    """Return the address of Redis, found as :func:`addresses` does. Raises SettingsError if there is none."""
    return _address(settings, settings.redis_url, lambda found: found.redis_url, "Redis", "redis_url")


def kafka_address(settings: Settings) -> str:
    """Return the address of Kafka, found as :func:`addresses` does. Raises SettingsError if there is none."""
    given = settings.kafka_servers
    return _address(settings, given, lambda found: found.bootstrap_servers, "Kafka", "bootstrap_servers")


def _address(
    settings: Settings, given: str | None, of: Callable[[Addresses], str | None], server: str, setting: str
) -> str:
    found = None if given else started_services(settings.data_dir)
    address = given or (found and of(found))
    if not address:
        message = (
            f"no {server}: `{setting}` is not set, and no services run on {settings.data_dir}; start them with "
            "`headrace up`"
        )
        raise SettingsError(message)
    return address


def schemas(settings: Settings, streams: Iterable[Stream]) -> SchemaStore | None:
    """Return the schemas of the records of these streams; None if they need none, or if no schema registry is set."""
    access = settings.schema_registry.access(settings.root)
    if access is None or not any(stream.format.uses_schemas for stream in streams):
        return None
    from headrace.bus.schemas.confluent_schema_registry import ConfluentSchemaRegistry
    from headrace.bus.schemas.schema_store import SchemaStore

    return SchemaStore(ConfluentSchemaRegistry(access), settings.data_dir / "schemas")


@contextmanager
def kafka_for_command(settings: Settings) -> Iterator[str]:
    """Yield the address of Kafka to a command that reads or writes something and then ends.

    If no Kafka runs but the data folder holds the data of one, it is started, and stopped again with the context.
    """
    from headrace.app.local.services import known_addresses, services_for

    if settings.kafka_servers is None:
        started_services(settings.data_dir)
    known = known_addresses(settings).bootstrap_servers
    if known is not None:
        yield known
    elif (settings.data_dir / "local" / "kafka").is_dir():
        typer.echo(f"no services run on {settings.data_dir}: starting them for this command …", err=True)
        with services_for(settings) as found:
            yield found.bootstrap_servers or addresses(settings)[0]
    else:
        yield addresses(settings)[0]  # nothing can be started: this raises the error that says what to do


def artifact_places(settings: Settings) -> ArtifactPlaces:
    """Return the places from which this deployment loads artifacts and manifests."""
    return places_with([settings.artifacts, *settings.artifact_places], settings.registry_uri)


def client_options(settings: Settings) -> LookUpOptions:
    """Return a feature client's options by the settings: its heartbeat bound, and a clock other than the wall's."""
    if settings.clock == "wall":
        return {"heartbeat_bound": settings.heartbeat_bound}
    return {"heartbeat_bound": settings.heartbeat_bound, "clock": "stream"}
