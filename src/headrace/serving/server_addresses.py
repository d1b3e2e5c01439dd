"""The addresses of Kafka and Redis that an application uses. It needs the standard library alone."""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.base.place_names import check_servers
from headrace.base.redaction import SecretUrl
from headrace.bus.control_topics import DEFAULT_NAMESPACE, check_namespace
from headrace.bus.kafka_servers import KafkaServers, kafka_properties, read_secrets
from headrace.bus.schemas.registry_access import NAMES, TABLE, SchemaRegistryAccess
from headrace.errors import SettingsError
from headrace.models.artifact_urls import scheme_of
from headrace.models.publication_signing import UNSIGNED, PublicationSigning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT_FILE = "headrace.toml"
_ADDRESSES = ("bootstrap_servers", "redis_url")
_LISTS = ("trusted_types", "artifact_places", "publication_keys")
_KAFKA = "HEADRACE_KAFKA__"
_NAMES = (*_ADDRESSES, "namespace", "artifacts", "registry_uri", "publications_signed_from", *_LISTS)


@dataclass(frozen=True)
class ServerAddresses:
    """The addresses of Kafka and Redis, and what the deployment trusts of a model event.

    ``trusted_types`` may be in a model artifact, ``artifact_places`` are where artifacts come from, and ``signing`` has
    the keys that verify model events. ``registry_uri`` is the MLflow server, if that keeps the artifacts.
    ``schema_registry`` is for formats whose records name a schema.

    >>> from headrace.serving import ServerAddresses
    >>> ServerAddresses.find("localhost:9092", redis_url="redis://localhost:6379", environ={}).namespace
    'headrace'
    """

    bootstrap_servers: str
    redis_url: str
    namespace: str = DEFAULT_NAMESPACE
    trusted_types: Sequence[str] = ()
    artifact_places: Sequence[str] = ()
    signing: PublicationSigning = UNSIGNED
    registry_uri: str = ""
    schema_registry: SchemaRegistryAccess | None = None

    def __post_init__(self) -> None:
        for name in ("redis_url", "registry_uri"):
            object.__setattr__(self, name, SecretUrl(getattr(self, name)))  # so that no message shows its password
        check_namespace(self.namespace)

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

        Raises SettingsError if an address is in none of these places, if Kafka's cannot be read, or if names of topics
        cannot begin with the namespace.
        """
        variables = os.environ if environ is None else environ
        file = find_project_file((folder or Path.cwd()).resolve())
        values: dict[str, Any] = {} if file is None else tomllib.loads(file.read_text("utf-8"))
        root = file.parent if file else Path.cwd()
        data_dir = root / Path(variables.get("HEADRACE_DATA_DIR") or str(values.get("data_dir", ".headrace")))
        arguments = {"bootstrap_servers": bootstrap_servers, "redis_url": redis_url, "namespace": namespace}
        local = _running_services(data_dir)
        found = dict(local)
        found |= {name: values[name] for name in _NAMES if name in values}
        found |= _from_environment(variables)
        found |= {name: value for name, value in arguments.items() if value is not None}
        missing = [name for name in _ADDRESSES if not found.get(name)]
        if missing:
            raise SettingsError(
                f"an application needs {' and '.join(missing)}: give it to headrace.connect, set "
                f"HEADRACE_{missing[0].upper()}, write it into {PROJECT_FILE}, or start `headrace up` in the project's "
                "folder"
            )
        servers = found["bootstrap_servers"]
        check_servers(servers)
        if servers != local.get("bootstrap_servers"):
            servers = KafkaServers(servers, read_secrets(_kafka(values, variables), root))
        return ServerAddresses(
            servers,
            found["redis_url"],
            found.get("namespace", DEFAULT_NAMESPACE),
            found.get("trusted_types", ()),
            _artifact_places(found, root, data_dir),
            PublicationSigning(tuple(found.get("publication_keys", ())), int(found.get("publications_signed_from", 0))),
            found.get("registry_uri", ""),
            _schema_registry(values, variables, root),
        )


def _artifact_places(found: Mapping[str, Any], root: Path, data_dir: Path) -> list[str]:
    """Return the place of a project's artifacts, and further ones. A relative folder starts at the project."""
    given = [found.get("artifacts", "{data_dir}/artifacts"), *found.get("artifact_places", ())]
    places = [str(place).replace("{data_dir}", str(data_dir)) for place in given]
    return [place if scheme_of(place) else str((root / Path(place).expanduser()).resolve()) for place in places]


def _running_services(data_dir: Path) -> dict[str, Any]:
    """Read the lock file of local services. If the services have died, the addresses are old, and connecting fails."""
    try:
        content = json.loads((data_dir / "services.lock").read_text())
    except (OSError, ValueError):
        return {}
    return {name: content[name] for name in _ADDRESSES if content.get(name)}


def _kafka(values: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the properties of Kafka's client from the table [kafka] and from the environment, which wins."""
    given = {
        name.removeprefix(_KAFKA).lower().replace("_", "."): value
        for name, value in environ.items()
        if name.startswith(_KAFKA) and value
    }
    return kafka_properties({**kafka_properties(values.get("kafka", {})), **given})


def _schema_registry(values: Mapping[str, Any], environ: Mapping[str, str], root: Path) -> SchemaRegistryAccess | None:
    """Return the schema registry from its table and from the environment, which wins."""
    names = {name: f"HEADRACE_{TABLE.upper()}__{name.upper()}" for name in NAMES}
    given = {name: environ[variable] for name, variable in names.items() if environ.get(variable)}
    return SchemaRegistryAccess.of({**values.get(TABLE, {}), **given}, root)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Any]:
    given = {name: environ.get(f"HEADRACE_{name.upper()}", "") for name in _NAMES}
    found: dict[str, Any] = {name: value for name, value in given.items() if value}
    for name in found.keys() & {*_LISTS}:
        text: str = found[name]
        is_json = text.startswith("[")
        found[name] = json.loads(text) if is_json else [part.strip() for part in text.split(",")]
    return found


def find_project_file(start: Path) -> Path | None:
    """Return the nearest headrace.toml, from the folder ``start`` upwards."""
    return next((path for folder in (start, *start.parents) if (path := folder / PROJECT_FILE).is_file()), None)
