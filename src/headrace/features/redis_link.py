"""How commands get to Redis: a port, and its adapter for one node.

The one for a cluster is in redis_cluster.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from hashlib import sha1
from typing import Any, Protocol

from headrace.bus.address import redacted
from headrace.errors import SettingsError

Command = tuple[int, Sequence[Any]]
"""The shard whose node has all its keys, and the words."""


class Link(Protocol):
    """Where the commands of one store go. Safe to share between threads. Methods raise what redis-py raises.

    And SettingsError where the server is not of the kind that the URL says.
    """

    shards: int

    @property
    def redis(self) -> Any:
        """redis-py's client."""
        ...

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """The replies, in order; one round trip if all goes well. Raises the first error once all are answered."""
        ...

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """Some more keys of the pattern, and the next position; 0 begins and ends a round."""
        ...

    def close(self) -> None:
        """Give the connections back."""
        ...


class Script:
    """A Lua script, sent by its hash; a node that does not know it is told by the link."""

    _known: dict[str, str] = {}  # noqa: RUF012 - the hash is of the text: nothing in it ever changes

    def __init__(self, text: str) -> None:
        self._hash = sha1(text.encode()).hexdigest()  # noqa: S324 - what EVALSHA asks for
        self._known[self._hash] = text

    def call(self, keys: Sequence[bytes], arguments: Sequence[Any] = ()) -> Sequence[Any]:
        """The words of a command that runs it."""
        return ("EVALSHA", self._hash, len(keys), *keys, *arguments)

    @classmethod
    def text(cls, words: Sequence[Any]) -> str:
        """The text of the script that a command runs."""
        return cls._known[words[1]]


class NodeLink:
    """A single Redis."""

    shards = 1

    def __init__(self, url: str, timeout_s: float) -> None:
        from redis import Redis, exceptions  # noqa: PLC0415 - keeps `import headrace.serving` light

        self._url, self._exceptions = redacted(url), exceptions
        # Any: redis-py's types tell neither replies from awaitables nor that keys may be bytes.
        self.redis: Any = Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s)
        self._is_known = False

    def run(self, commands: Sequence[Command]) -> list[Any]:
        """See the port."""
        self._check()
        replies = self._sent(commands)
        unknown = [n for n, reply in enumerate(replies) if isinstance(reply, self._exceptions.NoScriptError)]
        if unknown:
            self._teach({Script.text(commands[n][1]) for n in unknown})
            for n, reply in zip(unknown, self._sent([commands[n] for n in unknown]), strict=True):
                replies[n] = reply
        return whole(replies)

    def _sent(self, commands: Sequence[Command]) -> list[Any]:
        if len(commands) == 1:  # a look-up: quicker than a pipeline
            return [self._answer(commands[0][1])]
        with self.redis.pipeline(transaction=False) as pipeline:
            for _, words in commands:
                pipeline.execute_command(*words)
            replies: list[Any] = pipeline.execute(raise_on_error=False)
        return replies

    def _answer(self, words: Sequence[Any]) -> Any:
        try:
            return self.redis.execute_command(*words)
        except self._exceptions.ResponseError as error:
            return error

    def _teach(self, texts: set[str]) -> None:
        for text in texts:
            self.redis.script_load(text)

    def _check(self) -> None:
        """A plain URL would find one shard in a cluster where its other clients have 64."""
        if self._is_known:
            return
        try:
            found = self.redis.info("cluster").get("cluster_enabled")
        except self._exceptions.ResponseError:  # not allowed to ask
            found = 0
        if found:
            message = f"{self._url} is a node of a Redis Cluster: say redis+cluster:// (or rediss+cluster://) instead"
            raise SettingsError(message)
        self._is_known = True

    def scan(self, position: int, pattern: bytes, count: int) -> tuple[int, Sequence[bytes]]:
        """See the port."""
        self._check()
        found: tuple[int, Sequence[bytes]] = self.redis.scan(position, match=pattern, count=count)
        return found

    def close(self) -> None:
        """See the port."""
        self.redis.close()


_CLUSTER = re.compile(r"^(rediss?)\+cluster://")


def of_node(url: str) -> str:
    """The URL of the node that a URL names."""
    return _CLUSTER.sub(r"\1://", url)


def whole(replies: list[Any]) -> list[Any]:
    """The replies. Raises the first that is an error."""
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
