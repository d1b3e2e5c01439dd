"""Rows of words as a table: wrapped on a terminal, whole lines otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

_UNWRAPPED = 10_000  # columns: what is no terminal gets whole lines


def print_rows(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """One line a row, the columns named."""
    from rich.table import Table  # noqa: PLC0415 - only for tables
    from rich.text import Text  # noqa: PLC0415

    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_word(row[name]), overflow="fold") for name in columns))
    _print(table)


def print_details(told: dict[str, Any]) -> None:
    """One line a leaf of what is told, with its path."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in _lines(told):
        table.add_row(Text(name, "bold"), Text(_word(value), overflow="fold"))
    _print(table)


def _lines(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves, each with its path: ("data.topics.0.offsets.1", 98)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner and not isinstance(value, (dict, list)):
        yield path, value
    for key, each in inner:
        yield from _lines(each, f"{path}.{key}" if path else str(key))


def _word(value: Any) -> str:
    return "-" if value is None else str(value)


def _print(table: Table) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNWRAPPED)
    console.print(table)
