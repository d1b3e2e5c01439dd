"""`headrace ping`: checks that Kafka and Redis answer."""

from __future__ import annotations

import json as codec

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.base.redaction import redacted
from headrace.errors import UnavailableError

_TIMEOUT_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ping)


def ping(
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Check that Kafka and Redis answer. Exit code 0 if both do, 75 if one does not. Starts nothing."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app.local.services import known_addresses

    addresses = known_addresses(settings)
    answers = {"kafka": _kafka(addresses.bootstrap_servers), "redis": _redis(addresses.redis_url)}
    typer.echo(codec.dumps(answers) if json else "\n".join(f"{name}: {_word(ok=ok)}" for name, ok in answers.items()))
    if not all(answers.values()):
        kafka, redis = addresses.bootstrap_servers or "nowhere", redacted(addresses.redis_url or "nowhere")
        raise UnavailableError(
            f"asked Kafka at {kafka} and Redis at {redis}: no answer; "
            "start them with `headrace up` or set bootstrap_servers and redis_url"
        )


def _word(*, ok: bool) -> str:
    return "answers" if ok else "does not answer"


def _kafka(bootstrap_servers: str | None) -> bool:
    from headrace.app.local.kafka import has_broker

    return bootstrap_servers is not None and has_broker(bootstrap_servers, _TIMEOUT_SECONDS)


def _redis(url: str | None) -> bool:
    from redis import RedisError

    from headrace.features.online.redis.sentinels import node_of
    from headrace.features.online.redis.url import check_url, of_node

    if url is None:
        return False
    check_url(url)
    with node_of(of_node(url), socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS) as redis:
        try:
            return bool(redis.ping())
        except RedisError:
            return False
