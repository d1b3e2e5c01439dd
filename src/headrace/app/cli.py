"""The command `headrace`.

Each module of `headrace.app.commands` has a `register(app)` that adds its command; a command imports what it needs
when it runs, so that `headrace --help` is quick.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app import commands
from headrace.base.stopping import stop_signals
from headrace.errors import HeadraceError, TerminalError, TransientError
from headrace.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_ERROR = 1
EXIT_TRY_LATER = 75
EXIT_INTERRUPTED = 130


def main() -> None:
    """The entry point. A HeadraceError becomes one line and an exit code, any other error a traceback.

    After a signal everything is closed when the command returns, so the process ends there: libraries may take seconds
    to be taken down.
    """
    stop_signals.install()
    code = _run()
    if stop_signals.asked.is_set():
        stop_signals.leave(code)
    sys.exit(code)


def _run() -> int:
    """Run the command and return its exit code."""
    try:
        _check_text(sys.argv)
        build()()
    except HeadraceError as error:
        typer.secho(f"headrace: {error}", err=True, fg=typer.colors.RED)
        return EXIT_TRY_LATER if isinstance(error, TransientError) else EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else EXIT_ERROR * (ended.code is not None)
    return 0


def _check_text(arguments: Sequence[str]) -> None:
    """Raise TerminalError for an argument that is not text: messages and their readers have UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = os.fsencode(argument)
            message = f"argument {shown!r} is not UTF-8 text: messages have text alone; use a terminal with UTF-8"
            raise TerminalError(message) from None


def build() -> typer.Typer:
    """Return the CLI with every command of `headrace.app.commands`."""
    app = typer.Typer(
        name="headrace",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Keep features fresh from events, retrain models when the data says so, and announce every new version.",
        epilog="Exit codes: 0 done, 1 something has to be fixed, 2 wrong usage, 75 try again later, 130 interrupted, "
        "143 ended by SIGTERM before it was ready, or while something did not end.",
    )
    app.callback()(_root)
    for found in sorted(iter_modules(commands.__path__), key=lambda module: module.name):
        import_module(f"{commands.__name__}.{found.name}").register(app)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep features fresh from events, retrain models when the data says so, and announce every new version."""
    del version  # it has ended the process
    from headrace.app.terminal.logs import plain_logs

    plain_logs()
