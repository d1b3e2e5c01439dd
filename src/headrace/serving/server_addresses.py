"""The addresses of Kafka and Redis that an application uses. It needs the standard library alone."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.base.redaction import SecretUrl
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT_FILE = "headrace.toml"
_NAMES = ("bootstrap_servers", "redis_url", "namespace", "trusted_types")


@dataclass(frozen=True)
class ServerAddresses:
    """The addresses of Kafka and Redis, and the deployment's list of types that a model artifact may hold.

    >>> from headrace.serving import ServerAddresses
    >>> ServerAddresses.find("localhost:9092", redis_url="redis://localhost:6379", environ={}).namespace
    'headrace'
    """

    bootstrap_servers: str
    redis_url: str
    namespace: str = "headrace"
    trusted_types: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "redis_url", SecretUrl(self.redis_url))  # so that no message shows its password

    @staticmethod
    def find(
        bootstrap_servers: str | None = None,
        *,
        redis_url: str | None = None,
        namespace: str | None = None,
        environ: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> ServerAddresses:
        """Return the addresses: each from its argument, or else from the first of these places that has it.

        1. the environment variable, such as ``HEADRACE_REDIS_URL``;
        2. the nearest headrace.toml, from ``folder`` (default: the working directory) upwards;
        3. the services that ``headrace up`` runs for that project.

        Raises SettingsError if an address is in none of these places.
        """
        variables = os.environ if environ is None else environ
        file = find_project_file((folder or Path.cwd()).resolve())
        values = {} if file is None else tomllib.loads(file.read_text("utf-8"))
        data_dir = Path(variables.get("HEADRACE_DATA_DIR") or str(values.get("data_dir", ".headrace")))
        arguments = {"bootstrap_servers": bootstrap_servers, "redis_url": redis_url, "namespace": namespace}
        found = _running_services((file.parent if file else Path.cwd()) / data_dir)
        found |= {name: values[name] for name in _NAMES if name in values}
        found |= _from_environment(variables)
        found |= {name: value for name, value in arguments.items() if value is not None}
        missing = [name for name in _NAMES[:2] if not found.get(name)]
        if missing:
            raise SettingsError(
                f"an application needs {' and '.join(missing)}: give it to headrace.connect, set "
                f"HEADRACE_{missing[0].upper()}, write it into {PROJECT_FILE}, or start `headrace up` in the project's "
                "folder"
            )
        return ServerAddresses(**found)


def _running_services(data_dir: Path) -> dict[str, Any]:
    """Read the lock file of local services. If the services have died, the addresses are old, and connecting fails."""
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
        is_json = text.startswith("[")
        found["trusted_types"] = json.loads(text) if is_json else [part.strip() for part in text.split(",")]
    return found


def find_project_file(start: Path) -> Path | None:
    """Return the nearest headrace.toml, from the folder ``start`` upwards."""
    return next((path for folder in (start, *start.parents) if (path := folder / PROJECT_FILE).is_file()), None)
