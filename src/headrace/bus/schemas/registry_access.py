"""Where the schema registry is, and what lets clients in. It needs the standard library alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.base.redaction import SecretUrl, revealed
from headrace.bus.kafka_servers import secret_from_file, secret_from_keyring
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

TABLE = "schema_registry"
_PLACES = {"password_file", "password_keyring"}
_FILES = ("ca", "certificate", "key")
NAMES = ("url", "user", "password", *sorted(_PLACES), *_FILES)
_TIMEOUT_S = 5


@dataclass(frozen=True)
class SchemaRegistryAccess:
    """The address of a schema registry, and what it wants to see of its clients. ``ca`` and the rest are PEM files.

    >>> SchemaRegistryAccess("https://schemas:8081", user="app", password="hunter2")
    SchemaRegistryAccess(url='https://schemas:8081', user='app', ca=None, certificate=None, key=None)
    """

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    ca: str | None = None
    certificate: str | None = None
    key: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", SecretUrl(revealed(self.url)))  # it may have a password too

    @staticmethod
    def of(given: Mapping[str, Any], root: Path) -> SchemaRegistryAccess | None:
        """Return the access from the table [schema_registry]; None if it has no url.

        Relative files start at ``root``. Raises SettingsError for a setting that does not exist, for two passwords, and
        for a password that cannot be read.
        """
        unknown = sorted(given.keys() - set(NAMES))
        if unknown:
            raise SettingsError(f"{TABLE}.{unknown[0]}: there is no such setting; there are {', '.join(NAMES)}")
        if not given.get("url"):
            return None
        ways = [name for name in ("password", *sorted(_PLACES)) if given.get(name)]
        if len(ways) > 1:
            raise SettingsError(f"{TABLE}.{' and '.join(ways)} are the same secret; give one of them")
        files = {name: str(root / Path(given[name]).expanduser()) for name in _FILES if given.get(name)}
        return SchemaRegistryAccess(given["url"], given.get("user"), _password(given, root), **files)

    def options(self) -> dict[str, Any]:
        """Return the properties of confluent-kafka's client."""
        found = {
            "url": self.url,
            "timeout": _TIMEOUT_S,
            "max.retries": 0,  # who needs a schema asks again
            "basic.auth.user.info": None if self.user is None else f"{self.user}:{self.password or ''}",
            "ssl.ca.location": self.ca,
            "ssl.certificate.location": self.certificate,
            "ssl.key.location": self.key,
        }
        return {name: value for name, value in found.items() if value is not None}


def _password(given: Mapping[str, Any], root: Path) -> str | None:
    if given.get("password_file"):
        return secret_from_file(f"{TABLE}.password_file", root / Path(given["password_file"]).expanduser())
    if given.get("password_keyring"):
        return secret_from_keyring(f"{TABLE}.password_keyring", given["password_keyring"])
    return given.get("password")
