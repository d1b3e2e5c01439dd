"""`headrace top`: how a deployment does, on a screen that is drawn again each second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from headrace.app.processes.connections import kafka_address
from headrace.app.terminal.options import BootstrapServers, DataDir, RedisUrl, settings_from
from headrace.app.terminal.tables import table_of
from headrace.errors import TerminalError

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from headrace.app.snapshot.snapshot import Snapshot

_EVERY_S = 1.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(*, data_dir: DataDir = None, bootstrap_servers: BootstrapServers = None, redis_url: RedisUrl = None) -> None:
    """Show on this terminal how the deployment does, once a second, until Ctrl-C: what `headrace status` says.

    It only reads. For a browser there is `headrace ui`, for programs `headrace status --json`.
    """
    from rich.console import Console
    from rich.live import Live

    from headrace.app.flow.definition_graph import definition_graph_apart
    from headrace.app.snapshot.live_snapshot import LiveSnapshot
    from headrace.base.stopping import stop_signals

    console = Console()
    if not console.is_terminal:
        raise TerminalError("`headrace top` draws on a terminal, and this is none: use `headrace status`")
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    graph = definition_graph_apart(settings)
    live = LiveSnapshot(settings, kafka_address(settings), models=graph.names("model"), streams=graph.names("topic"))
    live.start()
    try:
        with Live(console=console, screen=True, auto_refresh=False) as shown:
            while not stop_signals.asked.is_set():
                shown.update(screen(live.read()), refresh=True)
                stop_signals.asked.wait(_EVERY_S)
    finally:
        live.stop()


def screen(found: Snapshot) -> Group:
    """Return what the screen shows: the sentences, then a table of each part that is known."""
    from rich.console import Group
    from rich.text import Text

    from headrace.app.snapshot.said_snapshot import said_sentences, said_tables
    from headrace.base.times import utc_datetime

    rows = said_sentences(found)
    at = utc_datetime(found.at_us).strftime("%H:%M:%S")
    parts: list[Text | Table] = [
        Text(f"headrace {found.namespace}, at {at} UTC", "bold"),
        table_of(tuple(rows[0]), rows),
    ]
    lost = [each for each in found.topics if each.error is not None]
    parts += [Text(f"\nKafka cannot be read: {each.error}") for each in lost[:1]]
    for name, table in said_tables(found).items():
        if table:
            parts += [Text(f"\n{name}", "bold"), table_of(tuple(table[0]), table)]
    return Group(*parts)
