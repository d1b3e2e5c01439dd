"""Where the project's settings are: the nearest headrace.toml. Standard library alone, as applications ask too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROJECT_FILE = "headrace.toml"


def find_project_file(start: Path) -> Path | None:
    """The nearest headrace.toml, from the folder ``start`` upwards."""
    return next((path for folder in (start, *start.parents) if (path := folder / PROJECT_FILE).is_file()), None)
