"""Checks each master of Redis: it must not evict keys, must have free memory, and must accept writes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from redis import exceptions

from headrace.app.doctor.finding import Finding, error, ok, warning
from headrace.base.redaction import redacted
from headrace.errors import OnlineStoreUnavailableError, SettingsError
from headrace.features.online.redis.retrying_call import ERRORS
from headrace.features.online.redis.url import check_cluster, check_url, of_node

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_TIMEOUT_S = 3.0
_FULL = 0.8
_CLOCK_S = 0.5
NO_EVICTION = "noeviction"


def examine(url: str, now_s: float) -> Iterator[Finding]:
    """Check each node that holds features. ``now_s`` is this machine's time. Raises OnlineStoreUnavailableError."""
    for address, (info, time_s) in _ask_masters(url).items():
        yield from check_info(f"redis {address}", info, time_s - now_s)


def evicting(url: str) -> dict[str, str]:
    """Return the nodes that may evict keys, with their policy. Raises OnlineStoreUnavailableError."""
    policies = {address: str(info.get("maxmemory_policy")) for address, (info, _) in _ask_masters(url).items()}
    return {address: policy for address, policy in policies.items() if policy != NO_EVICTION}


def check_info(subject: str, info: Mapping[str, Any], ahead_s: float) -> Iterator[Finding]:
    """Check the answer of `INFO`. ``ahead_s`` says how far the node's clock is ahead of this machine's."""
    yield ok(subject, f"version {info.get('valkey_version') or info.get('redis_version')}, {info.get('role')}")
    policy, used, most = info.get("maxmemory_policy"), info.get("used_memory", 0), info.get("maxmemory", 0)
    if policy != NO_EVICTION:
        yield error(
            subject,
            f"maxmemory-policy is {policy}: values lack what it evicts, and nothing says so",
            f"CONFIG SET maxmemory-policy {NO_EVICTION}",
        )
    if most and used > _FULL * most:
        yield warning(
            subject,
            f"{used / most:.0%} of its {most:,} bytes are used; when it is full, workers wait",
            "give it more memory, or shorten windows and history",
        )
    if info.get("role") != "master":
        yield error(subject, f"it is a {info.get('role')}, which takes no writes", "name the primary in redis_url")
    if info.get("rdb_last_bgsave_status") == "err":
        yield error(
            subject,
            "its last snapshot failed, and by default it then refuses writes",
            "look at its disk, or CONFIG SET stop-writes-on-bgsave-error no: features are rebuilt from the event log",
        )
    if abs(ahead_s) > _CLOCK_S:
        yield warning(
            subject,
            f"its clock is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} this machine's: ages and "
            "`stale` are off by that",
            "keep clocks by NTP",
        )


def _ask_masters(url: str) -> dict[str, tuple[dict[str, Any], float]]:
    """Ask each master, by address, for its `INFO` and its time in seconds. Raises SettingsError if it may not."""
    from redis.cluster import RedisCluster  # --help needs none of it

    from headrace.features.online.redis.password_file import without_password_file
    from headrace.features.online.redis.sentinels import node_of

    check_url(url)
    options: dict[str, Any] = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    node, is_cluster = of_node(url), of_node(url) != url
    try:
        if not is_cluster:
            with closing(node_of(node, **options)) as redis:
                return {redacted(url): (_info(redis), _seconds(redis.time()))}
        address, own = without_password_file(node)
        cluster: Any = RedisCluster.from_url(address, **own, **options)
        with closing(cluster):
            return {
                f"{master.host}:{master.port}": (
                    _info(cluster, target_nodes=master),
                    _seconds(cluster.time(target_nodes=master)),
                )
                for master in cluster.get_primaries()
            }
    except exceptions.NoPermissionError as failed:
        message = (
            f"Redis at {redacted(url)} does not say its settings: {failed}. Give this user the right +info. If a "
            "service forbids INFO, set maxmemory-policy to noeviction there, and start the worker with "
            "--allow-eviction"
        )
        raise SettingsError(message) from failed
    except ERRORS as failed:
        check_cluster(url, failed)
        message = f"Redis at {redacted(url)} does not answer: {failed}"
        raise OnlineStoreUnavailableError(message) from failed


def _info(redis: Any, **where: Any) -> dict[str, Any]:
    info: dict[str, Any] = redis.info(**where)
    return info


def _seconds(time: Any) -> float:
    seconds, micros = time
    return float(seconds) + float(micros) / 1e6
