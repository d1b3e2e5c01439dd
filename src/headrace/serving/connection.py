"""Where an application finds Kafka and Redis, with the standard library alone."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT_FILE = "headrace.toml"
_NAMES = ("bootstrap_servers", "redis_url", "namespace", "trusted_types")


@dataclass(frozen=True)
class Connection:
    """The addresses and the deployment's list of types that a model artifact may hold."""

    bootstrap_servers: str
    redis_url: str
    namespace: str = "headrace"
    trusted_types: Sequence[str] = ()

    @staticmethod
    def find(environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Connection:
        """From ``HEADRACE_…`` variables, else the nearest headrace.toml, else the services that ``headrace up`` runs.

        Raises SettingsError where no address is to be found.
        """
        variables = os.environ if environ is None else environ
        file = find_project_file((folder or Path.cwd()).resolve())
        values = {} if file is None else tomllib.loads(file.read_text("utf-8"))
        data_dir = Path(variables.get("HEADRACE_DATA_DIR") or str(values.get("data_dir", ".headrace")))
        found = _running((file.parent if file else Path.cwd()) / data_dir)
        found |= {name: values[name] for name in _NAMES if name in values}
        found |= _from_environment(variables)
        missing = [name for name in _NAMES[:2] if not found.get(name)]
        if missing:
            raise SettingsError(
                f"an application needs {' and '.join(missing)}: set HEADRACE_{missing[0].upper()}, write it into "
                f"{PROJECT_FILE}, or start `headrace up` in the project's folder"
            )
        return Connection(**found)


def _running(data_dir: Path) -> dict[str, Any]:
    """What the lock file of local services says; stale where they have died, and then connecting fails clearly."""
    try:
        content = json.loads((data_dir / "services.lock").read_text())
    except (OSError, ValueError):
        return {}
    return {name: content[name] for name in _NAMES[:2] if content.get(name)}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    given = {name: environ.get(f"HEADRACE_{name.upper()}", "") for name in _NAMES}
    found: dict[str, Any] = {name: value for name, value in given.items() if value}
    if "trusted_types" in found:
        text: str = found["trusted_types"]
        listed = text.startswith("[")
        found["trusted_types"] = json.loads(text) if listed else [part.strip() for part in text.split(",")]
    return found


def find_project_file(start: Path) -> Path | None:
    """The nearest headrace.toml, from the folder ``start`` upwards."""
    return next((path for folder in (start, *start.parents) if (path := folder / PROJECT_FILE).is_file()), None)
