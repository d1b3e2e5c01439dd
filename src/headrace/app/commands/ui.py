"""`headrace ui`: the live page of a deployment."""

from __future__ import annotations

from typing import Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, LogLevel, settings_from


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ui)


def ui(
    *,
    host: Annotated[str | None, typer.Option(help="Address to listen on (default 127.0.0.1).")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port to listen on (default 8765).")] = None,
    log_level: LogLevel = "info",
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Show the deployment as a live page: complete, fresh, learning, applied; flow, models, views, applications.

    The page only reads: it changes nothing, and has no login. Other names than those of this machine under which
    browsers may ask for it are a setting: `headrace config --explain` lists it under ui.
    """
    from headrace.app.terminal.logs import configure_logs
    from headrace.app.ui import server

    configure_logs(log_level)
    server.run(settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, ui__host=host, ui__port=port))
