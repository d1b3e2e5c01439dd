"""Makes every client of Kafka: each has the properties of the deployment, and its refusals are remembered."""

from __future__ import annotations

import importlib
import time
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

from headrace.bus.kafka_servers import OAUTH, KafkaServers
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from confluent_kafka import Consumer, KafkaError, Producer
    from confluent_kafka.admin import AdminClient

T = TypeVar("T")
_ADVICE = {
    "_AUTHENTICATION": "look at sasl.mechanism, sasl.username and sasl.password in [kafka]",
    "_SSL": "look at ssl.ca.location, ssl.certificate.location and ssl.key.location in [kafka]",
}
"""What to do after an error that a client hears while it connects."""
_UNREACHED = ("_TRANSPORT", "_ALL_BROKERS_DOWN")
_REACH = "is the broker up, and the address right? Look also at security.protocol in [kafka]"
_FRESH_S = 60.0
_refused: dict[Hashable, tuple[float, str]] = {}
_servers: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def consumer(servers: str, options: Mapping[str, Any]) -> Consumer:
    """Return a consumer with these options. Raises SettingsError for a property that is wrong."""
    from confluent_kafka import Consumer  # noqa: PLC0415 - keeps `import headrace.serving` light

    return _made(Consumer, servers, options)


def reader(servers: str, purpose: str, options: Mapping[str, Any] | None = None) -> Consumer:
    """Return a consumer for partitions that are assigned by hand, each with an offset. It joins no group.

    ``purpose`` names the group that a broker sees: ``headrace-`` and it. Raises SettingsError as :func:`consumer`.
    """
    own = {"group.id": f"headrace-{purpose}", "enable.auto.commit": False, "auto.offset.reset": "error"}
    return consumer(servers, own | dict(options or {}))


def producer(servers: str, options: Mapping[str, Any]) -> Producer:
    """Return a producer with these options. Raises SettingsError for a property that is wrong."""
    from confluent_kafka import Producer  # noqa: PLC0415

    return _made(Producer, servers, options)


def admin(servers: str) -> AdminClient:
    """Return an admin client. Raises SettingsError for a property that is wrong."""
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415

    client = _made(AdminClient, servers, {})
    _servers[client] = servers
    return client


def refusal(servers: str) -> str:
    """Return why clients of this process did not get to these servers within the last minute; empty if unknown.

    A client hears of it while it is polled.
    """
    return _fresh(_key(servers))


def refusal_of(client: AdminClient) -> str:
    """Return :func:`refusal` of the servers of an admin client."""
    client.poll(0)
    return refusal(_servers.get(client, ""))


def _fresh(key: Hashable) -> str:
    at_s, said = _refused.get(key, (0.0, ""))
    return said if said and time.monotonic() - at_s < _FRESH_S else ""


def client_options(servers: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a client: those of the deployment, and its own."""
    properties = dict(servers.properties) if isinstance(servers, KafkaServers) else {}
    oauth = properties.pop(OAUTH, None)
    own = dict(options)
    heard = own.pop("error_cb", None)
    return {
        "bootstrap.servers": str(servers),
        "log_level": 2,  # connections come and go: what matters is raised or returned
        **properties,
        **({} if oauth is None else {"oauth_cb": _function(oauth)}),
        **own,
        "error_cb": _Hearing(_key(servers), heard),
    }


class _Hearing:
    """Remembers what the brokers refused. ``then`` is called with every error."""

    def __init__(self, key: Hashable, then: Callable[[KafkaError], None] | None) -> None:
        self._key, self._then = key, then

    def __call__(self, error: KafkaError) -> None:
        advice = _ADVICE.get(error.name())
        if advice is not None:
            _refused[self._key] = time.monotonic(), f"{error.str()}; {advice}"
        elif error.name() in _UNREACHED and not _fresh(self._key):  # it also follows each refusal
            _refused[self._key] = time.monotonic(), f"{error.str()}; {_REACH}"
        if self._then is not None:
            self._then(error)


def _key(servers: str) -> Hashable:
    """Return who asks where: another user may be let in at the same address."""
    return str(servers), frozenset(servers.properties.items()) if isinstance(servers, KafkaServers) else None


def _made(kind: Callable[[dict[str, Any]], T], servers: str, options: Mapping[str, Any]) -> T:
    from confluent_kafka import KafkaException  # noqa: PLC0415

    try:
        return kind(client_options(servers, options))
    except KafkaException as error:
        said = error.args[0].str()
        raise SettingsError(f"[kafka]: Kafka's client does not take the properties for {servers}: {said}") from error


def _function(name: str) -> Callable[..., Any]:
    """Return the function of the user that gets a token: see confluent-kafka's ``oauth_cb``."""
    module, _, function = name.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"kafka.oauth = {name!r} cannot be imported: {error}") from error
    return found
