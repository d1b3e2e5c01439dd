"""`headrace init DIR`: writes a new project that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(help="Folder of the new project. It is made if it does not exist.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="init")(init)


def init(folder: Folder) -> None:
    """Write a project to start from: headrace.toml, streams/, features/ and trainers/ of the flights example."""
    from headrace.app.project.template import write_template

    for path in write_template(folder):
        typer.echo(f"wrote {path}")
    typer.echo(f"next: cd {folder} && headrace up")
