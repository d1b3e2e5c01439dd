"""`headrace up`: runs Kafka and Valkey on this machine until Ctrl-C."""

from __future__ import annotations

import json as codec
import threading

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.base.redaction import redacted

_CHECK_SECONDS = 0.5
_DOWNLOADS = " (the first start on this machine downloads Kafka, about 50 MB)"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(up)


def up(
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Run a real Kafka and Valkey for this project, without Docker, until Ctrl-C.

    Other commands of the project find these servers by themselves. A server whose address is set is not started.
    """
    from headrace.app.local.jars import has_kafka_jars
    from headrace.app.local.services import LocalServices
    from headrace.base.stopping import stop_signals

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    is_first = settings.kafka_servers is None and not has_kafka_jars()
    typer.echo(f"starting Kafka and Valkey{_DOWNLOADS if is_first else ''} …", err=True)
    with LocalServices(
        settings.data_dir, bootstrap_servers=settings.kafka_servers, redis_url=settings.redis_url
    ) as services:
        addresses = {"bootstrap_servers": services.bootstrap_servers, "redis_url": redacted(services.redis_url)}
        typer.echo(codec.dumps(addresses) if json else "\n".join(f"{k} = {v}" for k, v in addresses.items()))
        typer.echo("ready; Ctrl-C stops them", err=True)
        asked = threading.Event()
        with stop_signals.calling(asked.set):  # before that, a signal interrupts the start
            while not asked.wait(_CHECK_SECONDS):
                services.check()
    typer.echo("stopped; the data stays in " + str(settings.data_dir), err=True)
