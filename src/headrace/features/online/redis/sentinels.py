"""Redis with sentinels: they know which node is the primary, and make another one the primary if it dies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelManagedConnection as AsyncSentinelManagedConnection
from redis.asyncio.sentinel import SentinelManagedSSLConnection as AsyncSentinelManagedSSLConnection
from redis.sentinel import Sentinel, SentinelManagedConnection, SentinelManagedSSLConnection

from headrace.features.online.redis.password_file import without_password_file

_URL = re.compile(r"^(rediss?)\+sentinel://")
_PORT = 26_379
_OF_SENTINELS = {"sentinel_username": "username", "sentinel_password": "password"}


@dataclass(frozen=True)
class SentinelPlace:
    """What a URL with ``+sentinel`` says: the sentinels, and the name under which they watch the primary.

    ``of_node`` and ``of_sentinels`` are options of redis-py's clients.

    >>> place = sentinel_place("redis+sentinel://app:pw@s1,s2:26380/features/3")
    >>> place.sentinels, place.service, place.of_node
    ([('s1', 26379), ('s2', 26380)], 'features', {'username': 'app', 'password': 'pw', 'db': 3})
    """

    sentinels: list[tuple[str, int]]
    service: str
    of_node: dict[str, Any]
    of_sentinels: dict[str, Any]


def sentinel_place(url: str) -> SentinelPlace | None:
    """Return what a URL says; None if it has no ``+sentinel``. Raises ValueError for a URL that cannot be read."""
    scheme = _URL.match(url)
    if scheme is None:
        return None
    address, own = without_password_file(url)
    parts = urlsplit(address)
    user, _, hosts = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    service, _, database = parts.path.lstrip("/").partition("/")
    given = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    if not service or set(given) - set(_OF_SENTINELS) or parts.fragment:
        raise ValueError("no name of a primary, or unknown parameters")
    secured: dict[str, Any] = {"ssl": True} if scheme[1] == "rediss" else {}
    known = {"username": unquote(name), "password": unquote(password)}
    return SentinelPlace(
        [_address(host) for host in hosts.split(",")],
        unquote(service),
        {key: value for key, value in known.items() if value} | {"db": int(database or 0)} | secured | own,
        {_OF_SENTINELS[key]: value for key, value in given.items()} | secured,
    )


def _address(text: str) -> tuple[str, int]:
    host = urlsplit(f"//{text}")
    if not host.hostname:
        raise ValueError("a sentinel has no host")
    return host.hostname, host.port or _PORT


class _PrimaryConnection(SentinelManagedConnection):
    """Asks the sentinels whenever it connects. redis-py would connect to the primary of before while it sends."""

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Connect if necessary, and send."""
        if not self._sock:
            self.connect()  # type: ignore[no-untyped-call]
        super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]


class _SecuredPrimaryConnection(_PrimaryConnection, SentinelManagedSSLConnection):
    """Over TLS."""


class _AsyncPrimaryConnection(AsyncSentinelManagedConnection):
    """:class:`_PrimaryConnection` for asyncio."""

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        """Connect if necessary, and send."""
        if not self.is_connected:
            await self.connect()  # type: ignore[no-untyped-call]
        await super().send_packed_command(command, check_health)


class _AsyncSecuredPrimaryConnection(_AsyncPrimaryConnection, AsyncSentinelManagedSSLConnection):
    """Over TLS."""


class _Primary(Redis):
    """A client that also closes the connections to its sentinels."""

    def close(self) -> None:
        """Close all connections."""
        super().close()
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            sentinel.close()


class _AsyncPrimary(AsyncRedis):
    """A client that also closes the connections to its sentinels."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:  # noqa: FBT001 - redis-py's argument
        """Close all connections."""
        await super().aclose(close_connection_pool)
        pool: Any = self.connection_pool
        for sentinel in pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def node_of(url: str, **options: Any) -> Any:
    """Return redis-py's client of the node that a URL names, or of the primary that its sentinels name.

    The sentinels are asked for each new connection.
    """
    place = sentinel_place(url)
    if place is None:
        address, own = without_password_file(url)
        return Redis.from_url(address, **own, **options)
    kind = _SecuredPrimaryConnection if "ssl" in place.of_node else _PrimaryConnection
    return _sentinels(Sentinel, place, options).master_for(place.service, redis_class=_Primary, connection_class=kind)


def async_node_of(url: str, **options: Any) -> Any:
    """Return :func:`node_of` for asyncio."""
    place = sentinel_place(url)
    if place is None:
        address, own = without_password_file(url)
        return AsyncRedis.from_url(address, **own, **options)
    kind = _AsyncSecuredPrimaryConnection if "ssl" in place.of_node else _AsyncPrimaryConnection
    asked = _sentinels(AsyncSentinel, place, options)
    return asked.master_for(place.service, redis_class=_AsyncPrimary, connection_class=kind)


def _sentinels(kind: Any, place: SentinelPlace, options: dict[str, Any]) -> Any:
    timeouts = {name: value for name, value in options.items() if name.startswith("socket_")}
    return kind(place.sentinels, sentinel_kwargs={**timeouts, **place.of_sentinels}, **place.of_node, **options)
