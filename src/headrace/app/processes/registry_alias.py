"""Sets the registry's alias for a command. The command never waits for a registry that is away, nor fails with it."""

from __future__ import annotations

import getpass
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.app.project.settings import Settings
    from headrace.models.model_state import ModelState

_SQLITE = "sqlite:///"
_CONNECT_S = 1.0
_PORTS = {"http": 80, "https": 443}


def whoami() -> str:
    """Return who runs this command: user@host."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user that has a number alone
        user = f"uid-{os.getuid()}"
    return f"{user}@{socket.gethostname()}"


def mend_if_reachable(settings: Settings, state: Callable[[], ModelState], model: str) -> None:
    """Make the registry's alias name the live version. If that fails, a warning says that a trainer does it."""
    if not _is_reachable(settings.registry_uri):
        return
    from headrace.models.champion_alias import mend_alias

    try:
        from headrace.models.mlflow_registry import MlflowRegistry  # it takes seconds: after everything else

        mend_alias(state, MlflowRegistry(settings.registry_uri, settings.artifacts), model)
    except Exception as error:  # noqa: BLE001 - the event counts, whatever the registry raises
        typer.echo(f"warning: the registry's alias is not set: {error}; a trainer sets it when it runs", err=True)


def _is_reachable(uri: str) -> bool:
    """Return whether a registry is there: a database file that exists, or a server that accepts a connection."""
    if uri.startswith(_SQLITE):
        return Path(uri.removeprefix(_SQLITE)).is_file()
    server = urlsplit(uri)
    if server.scheme not in _PORTS or server.hostname is None:
        return False
    try:
        socket.create_connection((server.hostname, server.port or _PORTS[server.scheme]), _CONNECT_S).close()
    except OSError:
        return False
    return True
