"""`headrace version`: shows the installed versions."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer

from headrace.app.terminal.options import JsonOption
from headrace.version import __version__

_PACKAGES = ("confluent-kafka", "redis", "deltalake", "faust-streaming", "feast", "mlflow", "scikit-learn", "skops")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(version)


def version(json: JsonOption = False) -> None:
    """Show the versions of headrace, of Python and of the main packages."""
    versions = {
        "headrace": __version__,
        "python": platform.python_version(),
        **{name: _installed(name) for name in _PACKAGES},
    }
    if json:
        import json as codec

        typer.echo(codec.dumps(versions))
        return
    for name, number in versions.items():
        typer.echo(f"{name:<16} {number or 'not installed'}")


def _installed(name: str) -> str | None:
    try:
        return installed(name)
    except PackageNotFoundError:
        return None
