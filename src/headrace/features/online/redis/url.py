"""URLs of the online store.

``redis://`` and ``rediss://`` name a single node. With ``+cluster`` they name any node of a cluster, and with
``+sentinel`` the sentinels that know the primary.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from headrace.base.redaction import redacted
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RESP = 2
"""The protocol of Redis. In protocol 3 a hash is a map, not a list, and takes longer to read."""
_HOST, _NUMBER = re.compile(r"[\w.:-]+"), re.compile(r"/?\d*")
_CLUSTER = re.compile(r"^(rediss?)\+cluster://")


def of_node(url: str) -> str:
    """Return the URL of the node, without ``+cluster``."""
    return _CLUSTER.sub(r"\1://", url)


def check_url(url: str) -> None:
    """Raise SettingsError for a URL that cannot be read. The error does not show the password."""
    from redis import connection  # noqa: PLC0415 - `--help` needs none of it

    from headrace.features.online.redis.password_file import without_password_file  # noqa: PLC0415
    from headrace.features.online.redis.sentinels import sentinel_place  # noqa: PLC0415

    parse: Callable[[str], dict[str, Any]] = connection.parse_url  # redis-py has no type for it
    try:
        if sentinel_place(url) is not None:
            return
        address, _ = without_password_file(of_node(url))
        found = parse(address)
        pool: Any = connection.ConnectionPool.from_url(address)
        pool.make_connection()  # it does not connect, and takes no parameter that it does not know
        is_plain = _is_plain(url)
    except (TypeError, ValueError):
        found, is_plain = {}, False
    if found.get("protocol", str(RESP)) != str(RESP):
        message = (
            f"the address of Redis, {redacted(url)}, asks for protocol {found['protocol']}: leave it out, headrace "
            "speaks RESP2"
        )
        raise SettingsError(message)
    if not is_plain:
        message = (
            f"the address of Redis, {redacted(url)}, cannot be read: wanted redis://, rediss://, redis+cluster:// or "
            "rediss+cluster:// with user:password@host:port/number, and one host; or redis+sentinel:// or "
            "rediss+sentinel:// with user:password@sentinel:port,sentinel:port/name/number, where name is that of the "
            "primary; in the password write %2F for /, %40 for @, %3A for :, or give only "
            "the user, and ?password_file=…"
        )
        raise SettingsError(message)


def _is_plain(url: str) -> bool:
    """Return False if the URL names no host or several, or if its path is not the number of a database.

    A password with a ``/``, ``?`` or ``#`` ends the host too early, and ``@`` comes later.
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return bool(parts.path)
    rest = parts.path + parts.query.partition("=")[0] + parts.fragment
    if ":" in parts.netloc and "@" in rest:
        return False
    return bool(_HOST.fullmatch(parts.hostname or "localhost") and _NUMBER.fullmatch(parts.path))


def check_single(url: str, found: Mapping[str, Any]) -> None:
    """Raise SettingsError if the node of a plain URL belongs to a cluster. ``found`` is its INFO.

    Its client would find one shard where others have 64.
    """
    if found.get("cluster_enabled"):
        message = f"{redacted(url)} is a node of a Redis Cluster: say redis+cluster:// (or rediss+cluster://) instead"
        raise SettingsError(message)


def check_cluster(url: str, error: Exception) -> None:
    """Raise SettingsError if a cluster's client failed because its URL names a single node."""
    if "Cluster mode is not enabled" in str(error):
        message = f"{redacted(url)} is a single Redis, not a cluster: say redis:// (or rediss://) instead"
        raise SettingsError(message) from error
