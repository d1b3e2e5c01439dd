"""Prints the result of a command as a table or as JSON. Tables are wrapped on a terminal only."""

from __future__ import annotations

import json as codec
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.table import Table

_UNWRAPPED = 10_000  # columns: where the output is not a terminal, each row is one line


def print_json(content: Any) -> None:
    """Print JSON. ``content`` may hold dataclasses and msgspec structs."""
    import msgspec

    typer.echo(codec.dumps(content, indent=2, default=msgspec.to_builtins))


def print_list(columns: Sequence[str], rows: Sequence[dict[str, Any]], *, json: bool, if_empty: str) -> None:
    """Print the rows as JSON with all their fields, or as a table of ``columns``. Without rows, a sentence is printed.

    >>> print_list(("id", "reason"), [], json=False, if_empty="nothing is excluded")
    nothing is excluded
    """
    if json:
        print_json(rows)
    elif rows:
        print_rows(columns, rows)
    else:
        typer.echo(if_empty)


def print_rows(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Print a table with one line a row. ``columns`` are its header and the fields that are shown."""
    _print(table_of(columns, rows))


def table_of(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return the table that :func:`print_rows` prints."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_word(row[name]), overflow="fold") for name in columns))
    return table


def print_details(content: dict[str, Any]) -> None:
    """Print a nested dictionary: one line for each value, with its path."""
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name, value in _leaves(content):
        table.add_row(Text(name, "bold"), Text(_word(value), overflow="fold"))
    _print(table)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its path: ("data.topics.0.offsets.1", 98)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner and not isinstance(value, (dict, list)):
        yield path, value
    for key, each in inner:
        yield from _leaves(each, f"{path}.{key}" if path else str(key))


def _word(value: Any) -> str:
    """Return a value as a person reads it: six digits of a float are enough, JSON has them all."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "-" if value is None else harmless(str(value))


def harmless(text: str) -> str:
    """Return a text without characters that control a terminal: they are written as escapes. Lines stay lines.

    >>> print(harmless(f"worse {chr(27)}[2J than before").isprintable())
    True
    """
    return "".join(each if each.isprintable() or each in "\n\t" else ascii(each)[1:-1] for each in text)


def _print(table: Table) -> None:
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNWRAPPED)
    console.print(table)
