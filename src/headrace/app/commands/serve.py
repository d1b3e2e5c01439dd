"""`headrace serve`: answers look-ups over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.app.terminal.options import DataDir, LogLevel, RedisUrl, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(serve)


def serve(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on (default 8080).")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Number of processes that answer (default 1).")] = None,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Answer look-ups over HTTP until stopped: /features, Feast's /get-online-features, /openapi.json.

    Keys, TLS and limits are settings: `headrace config --explain` lists them under http.
    """
    from headrace.app.processes import http_server
    from headrace.app.terminal.logs import configure_logs

    configure_logs(log_level)
    settings = settings_from(
        data_dir=data_dir, redis_url=redis_url, http__host=host, http__port=port, http__workers=workers
    )
    http_server.run(settings, log_level)
