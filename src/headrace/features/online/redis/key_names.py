"""The names of the online store's keys in Redis: docs/reference/online-format.md.

With the hash tag of the shard (one shard on a single node, 64 on a cluster)::

    hr:{<shard>}:<namespace>:<view>@<version>:cursors            HASH  source partition → cursor
    hr:{<shard>}:<namespace>:<view>@<version>:e:<entity key>     HASH  source partition → field
    hr:{0}:<namespace>:doc:<name>                                STRING  JSON
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class KeyNames:
    """The keys of one namespace."""

    def __init__(self, namespace: str, shards: int) -> None:
        self.shards = shards
        self.prefixes = [f"hr:{{{shard}}}:{namespace}:".encode() for shard in range(shards)]
        """The first bytes of each shard's keys."""
        self.fields = f"hr:{{{'0' if shards == 1 else '*'}}}:{namespace}:*:e:*".encode()
        """A pattern of the keys that have fields."""

    def cursors(self, shard: int, view: str) -> bytes:
        """The key of a view's cursors."""
        return self.prefixes[shard] + view.encode() + b":cursors"

    def entity_prefix(self, shard: int, view: str) -> bytes:
        """The bytes before an entity's own key."""
        return self.prefixes[shard] + view.encode() + b":e:"

    def entities(self, shard: int, view: str, keys: Iterable[bytes]) -> list[bytes]:
        """The keys of some entities."""
        prefix = self.entity_prefix(shard, view)
        return [prefix + key for key in keys]

    def document(self, name: str) -> bytes:
        """The key of a document, which is in shard 0."""
        return self.prefixes[0] + b"doc:" + name.encode()

    def place(self, key: bytes) -> tuple[int, str] | None:
        """The shard and the view of a key that has fields; None if the key is not of this namespace."""
        shard = int(key[4 : key.index(b"}")])
        if shard >= self.shards or not key.startswith(self.prefixes[shard]):
            return None
        view, _, _ = key.removeprefix(self.prefixes[shard]).partition(b":")
        return shard, view.decode()
