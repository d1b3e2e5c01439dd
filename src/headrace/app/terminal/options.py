"""The options that several commands share, and the settings made from them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings

DataDir = Annotated[Path | None, typer.Option(help="Folder of local services, event log, registry and artifacts.")]
BootstrapServers = Annotated[str | None, typer.Option(help="Kafka to use instead of a local one, host:port[,…].")]
RedisUrl = Annotated[
    str | None, typer.Option(help="Redis or Valkey to use, not a local one: redis://…, redis+cluster://…")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MOMENT_FORMS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"]
"""How a time may be typed: see :func:`zoned`."""
LogLevel = Annotated[str, typer.Option(help="debug, info, warning, error or critical.")]


def settings_from(**flags: Any) -> Settings:
    """The settings in force: the given flags (None: not given; "__" for "."), environment, headrace.toml, defaults."""
    from headrace.app.project.settings_sources import load_settings  # noqa: PLC0415 - --help needs no settings

    given = {name.replace("__", "."): value for name, value in flags.items()}
    if given.get("data_dir") is not None:
        given["data_dir"] = Path(given["data_dir"]).resolve()  # a flag is meant from where it is typed
    return load_settings(given)


def zoned(at: datetime) -> datetime:
    """A time as it was typed; without a zone it is UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)
