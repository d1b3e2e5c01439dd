"""What the server asks of a client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.serving.features import FeatureClient, Features


class LookUps(Protocol):
    """:meth:`FeatureClient.get`, awaited."""

    async def get(
        self, features: str | Sequence[str], entities: Sequence[Mapping[str, Any]], *, as_of_us: int | None = None
    ) -> Features:
        """Look up."""
        ...


class InThreads:
    """A FeatureClient whose look-ups wait in threads."""

    def __init__(self, client: FeatureClient) -> None:
        self._client = client

    async def get(
        self, features: str | Sequence[str], entities: Sequence[Mapping[str, Any]], *, as_of_us: int | None = None
    ) -> Features:
        """See the protocol."""
        return await asyncio.to_thread(self._client.get, features, entities, as_of_us=as_of_us)
