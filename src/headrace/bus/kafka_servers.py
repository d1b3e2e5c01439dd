"""Where Kafka is, and the properties that let clients in. It needs the standard library alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SECRETS = frozenset(
    {
        "sasl.password",
        "sasl.oauthbearer.client.secret",
        "sasl.oauthbearer.assertion.private.key.passphrase",
        "sasl.oauthbearer.assertion.private.key.pem",
        "ssl.key.password",
        "ssl.key.pem",
        "ssl.keystore.password",
    }
)
"""The properties that are never shown. ``….file`` and ``….keyring`` say where one is instead."""
OAUTH = "oauth"
_OWN = frozenset(
    {
        "bootstrap.servers", "metadata.broker.list", "group.id", "group.protocol", "client.id", "transactional.id",
        "enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset", "enable.partition.eof",
        "enable.idempotence", "isolation.level", "partition.assignment.strategy", "acks", "request.required.acks",
        "message.timeout.ms", "delivery.timeout.ms", "max.in.flight", "max.in.flight.requests.per.connection",
    }
)  # fmt: skip
"""The properties that headrace sets itself: exactly once, and what a client is for, depend on them."""
_PLACES = (".file", ".keyring")


class KafkaServers(str):
    """The addresses of Kafka, ``host:port[,…]``, with the ``properties`` of librdkafka that every client has.

    It is a text, so messages show the addresses alone. ``bus/kafka_clients.py`` makes clients of it.

    >>> servers = KafkaServers("kafka:9093", {"security.protocol": "SSL"})
    >>> f"{servers}", servers.properties
    ('kafka:9093', {'security.protocol': 'SSL'})
    """

    __slots__ = ("properties",)
    properties: dict[str, str]

    def __new__(cls, addresses: str, properties: Mapping[str, str] | None = None) -> Self:
        """Keep the properties beside the text."""
        made = super().__new__(cls, addresses)
        made.properties = dict(properties or {})
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        """Keep the properties when another process gets it."""
        return KafkaServers, (str(self), self.properties)


def kafka_properties(given: Mapping[str, Any]) -> dict[str, str]:
    """Return librdkafka's properties from the table ``[kafka]``, which may be nested. It reads no secret from a file.

    >>> kafka_properties({"security": {"protocol": "SASL_SSL"}, "sasl.username": "app"})
    {'security.protocol': 'SASL_SSL', 'sasl.username': 'app'}
    >>> kafka_properties({"group.id": "mine"})
    Traceback (most recent call last):
        ...
    headrace.errors.SettingsError: kafka.group.id: headrace sets this property itself; leave it out
    """
    found = dict(_flat(given))
    for name, value in found.items():
        if name in _OWN:
            raise SettingsError(f"kafka.{name}: headrace sets this property itself; leave it out")
        if name == OAUTH and not _names_a_function(value):
            raise SettingsError(f"kafka.oauth = {value!r} is no module:function, such as 'shop.tokens:token'")
    for name in SECRETS:
        ways = [way for way in (name, *(name + place for place in _PLACES)) if way in found]
        if len(ways) > 1:
            raise SettingsError(f"{' and '.join('kafka.' + way for way in ways)} are the same secret; give one of them")
    return found


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, bool):
            yield f"{prefix}{name}", str(value).lower()
        elif isinstance(value, str | int | float):
            yield f"{prefix}{name}", str(value)
        else:
            message = f"kafka.{prefix}{name} = {value!r} is no text, number or true/false, as Kafka's client wants"
            raise SettingsError(message)


def _names_a_function(text: str) -> bool:
    module, colon, function = text.partition(":")
    return bool(colon) and function.isidentifier() and all(part.isidentifier() for part in module.split("."))


def read_secrets(properties: Mapping[str, str], root: Path) -> dict[str, str]:
    """Return the properties with the secrets that lie in files or in the keyring. A relative file starts at ``root``.

    Raises SettingsError if a file cannot be read, or if the keyring has no such password.
    """
    found = {}
    for name, value in properties.items():
        secret, _, place = name.rpartition(".")
        if secret not in SECRETS or f".{place}" not in _PLACES:
            found[name] = value
        elif place == "file":
            found[secret] = secret_from_file(f"kafka.{name}", root / Path(value).expanduser())
        else:
            found[secret] = secret_from_keyring(f"kafka.{name}", value)
    return found


def secret_from_file(setting: str, file: Path) -> str:
    """Return the secret in a file. Raises SettingsError, which names the setting."""
    try:
        return file.read_text("utf-8").rstrip("\r\n")
    except (OSError, ValueError) as error:
        raise SettingsError(f"{setting}: {file} cannot be read: {error}") from error


def secret_from_keyring(setting: str, entry: str) -> str:
    """Return the secret of the keyring's entry ``service/user``. Raises SettingsError, which names the setting."""
    from headrace.errors import require  # noqa: PLC0415

    service, slash, user = entry.partition("/")
    if not slash:
        raise SettingsError(f"{setting} = {entry!r} is no service/user of the keyring")
    found: str | None = require("keyring", "keyring").get_password(service, user)
    if found is None:
        raise SettingsError(
            f"{setting}: the keyring has no password of {user!r} for {service!r}; `keyring set {service} {user}`"
        )
    return found


def shown(properties: Mapping[str, str]) -> dict[str, str]:
    """Return the properties as they may be shown, without secrets.

    >>> shown({"sasl.username": "app", "sasl.password": "hunter2"})
    {'sasl.username': 'app', 'sasl.password': '***'}
    """
    return {name: "***" if name in SECRETS else value for name, value in properties.items()}
