"""`headrace init [FOLDER]`: writes a new project that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from headrace.app.project.template import templates

Folder = Annotated[
    Path, typer.Argument(help="Folder of the new project, made if it does not exist. Default: this folder.")
]
_CHOICES, _DEFAULT = ", ".join(templates()), next(iter(templates()), None)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="init")(init)


def init(
    folder: Folder = Path(),
    *,
    template: Annotated[
        str | None,
        typer.Option(metavar="NAME", help=f"The project to start from: {_CHOICES} (default: {_DEFAULT})."),
    ] = None,
) -> None:
    """Write a project to start from: definitions, tests of its features, and a README with the next commands."""
    from headrace.app.project.template import write_template

    for path in write_template(folder, template):
        typer.echo(f"wrote {path}")
    into = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    typer.echo(f"next: {into}pytest && headrace up")
