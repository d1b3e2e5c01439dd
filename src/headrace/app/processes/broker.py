"""Kafka for a command that looks or says something and ends, and what the log of model events amounts to."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.project.settings import Settings
    from headrace.models.model_state import ModelState

TIMEOUT_SECONDS = 10.0


@contextmanager
def kafka(settings: Settings) -> Iterator[str]:
    """Kafka's address; one that lies stopped in the data folder runs for as long as the context lasts."""
    from headrace.app.local.services import known_addresses, services_for  # noqa: PLC0415
    from headrace.app.processes.connections import addresses  # noqa: PLC0415

    known = known_addresses(settings).bootstrap_servers
    if known is not None:
        yield known
    elif (settings.data_dir / "local" / "kafka").is_dir():
        typer.echo(f"no services run on {settings.data_dir}: starting them for this command …", err=True)
        with services_for(settings) as found:
            yield found.bootstrap_servers or addresses(settings)[0]
    else:
        yield addresses(settings)[0]  # there is nothing to start: it says what to do


def states(servers: str) -> dict[str, ModelState]:
    """The states of all models. Raises BusUnavailableError."""
    from headrace.models.kafka_model_event_log import KafkaModelEventLog  # noqa: PLC0415
    from headrace.models.model_state import fold_all  # noqa: PLC0415

    if not _has_events(servers):
        return {}
    with closing(KafkaModelEventLog(servers, timeout_s=TIMEOUT_SECONDS)) as log:
        return fold_all(entry.event for entry in log.read() if entry.event is not None)


def _has_events(servers: str) -> bool:
    """Whether the topic of model events exists; a reader does not make it."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    from headrace.bus.topics import MODELS, admin  # noqa: PLC0415
    from headrace.errors import BusUnavailableError  # noqa: PLC0415

    try:
        return MODELS in admin(servers).list_topics(timeout=TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise BusUnavailableError(f"could not list the topics of {servers}: {error}; is the broker up?") from error
