"""Finds Kafka and Redis for a process or a command, from the settings and from the services on this machine."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from headrace.app.local.lock import running
from headrace.errors import SettingsError
from headrace.models.artifact_places import places_with
from headrace.models.publication_signing import PublicationSigning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.project.settings import Settings
    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.serving.look_up import LookUpOptions


def addresses(settings: Settings) -> tuple[str, str]:
    """Return the addresses of Kafka and of Redis.

    An address that is set is used. If one is not set, the services that run on the data folder are asked. Raises
    SettingsError if there are none.
    """
    servers = settings.kafka_servers
    if servers and settings.redis_url:
        return servers, settings.redis_url
    found = running(settings.data_dir)
    if found is None or found.bootstrap_servers is None or found.redis_url is None:
        message = (
            f"no Kafka and Redis: `bootstrap_servers` and `redis_url` are not set, and no services run on "
            f"{settings.data_dir}; start them with `headrace up`"
        )
        raise SettingsError(message)
    return servers or found.bootstrap_servers, settings.redis_url or found.redis_url


def redis_address(settings: Settings) -> str:
    """Return the address of Redis, found as :func:`addresses` does. Raises SettingsError if there is none."""
    found = running(settings.data_dir)
    address = settings.redis_url or (found and found.redis_url)
    if not address:
        message = (
            f"no Redis: `redis_url` is not set, and no services run on {settings.data_dir}; start them with "
            "`headrace up`"
        )
        raise SettingsError(message)
    return address


@contextmanager
def kafka_for_command(settings: Settings) -> Iterator[str]:
    """Yield the address of Kafka to a command that reads or writes something and then ends.

    If no Kafka runs but the data folder holds the data of one, it is started, and stopped again with the context.
    """
    from headrace.app.local.services import known_addresses, services_for

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


def signing(settings: Settings) -> PublicationSigning:
    """Return the keys that sign and verify model events. Raises SettingsError for a key that is too short."""
    keys = tuple(key.get_secret_value() for key in settings.publication_keys)
    return PublicationSigning(keys, settings.publications_signed_from)


def client_options(settings: Settings) -> LookUpOptions:
    """Return a feature client's options by the settings: its heartbeat bound, and a clock other than the wall's."""
    if settings.clock == "wall":
        return {"heartbeat_bound": settings.heartbeat_bound}
    return {"heartbeat_bound": settings.heartbeat_bound, "clock": "stream"}
