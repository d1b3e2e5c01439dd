"""Look-ups for applications on asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

from headrace.serving.look_up import LookUp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import StoredFields
    from headrace.serving.feature_vectors import FeatureVectors
    from headrace.serving.look_up import ClientOptions


class AsyncStore(Protocol):
    """What look-ups ask of an online store, awaited."""

    async def look_up(self, wanted: Sequence[tuple[str, Sequence[bytes]]]) -> list[StoredFields]:
        """See :class:`~headrace.features.online.store.OnlineStore`."""
        ...

    async def look_up_with(
        self, document: str, wanted: Sequence[tuple[str, Sequence[bytes]]]
    ) -> tuple[dict[str, Any] | None, list[StoredFields]]:
        """See :class:`~headrace.features.online.store.OnlineStore`."""
        ...

    async def get_document(self, name: str) -> dict[str, Any] | None:
        """See :class:`~headrace.features.online.store.OnlineStore`."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


class AsyncFeatureClient:
    """A :class:`FeatureClient` to be awaited: the same options, answers and errors.

    Safe to share between tasks, and between event loops. A task that is cancelled, as by ``asyncio.timeout``, leaves
    nothing behind. Use it as an asynchronous context, or ``close`` it.
    """

    def __init__(self, store: AsyncStore, **options: Unpack[ClientOptions]) -> None:
        self._store = store
        self._look_up = LookUp(**options)

    @classmethod
    def from_url(
        cls,
        redis_url: str,
        namespace: str = "headrace",
        *,
        timeout_s: float = 5.0,
        retry_s: float = 1.0,
        pool_size: int | None = None,
        **options: Unpack[ClientOptions],
    ) -> AsyncFeatureClient:
        """See :meth:`FeatureClient.from_url`; ``pool_size`` is of each event loop."""
        from headrace.features.online.redis.async_store import AsyncRedisOnlineStore  # noqa: PLC0415

        store = AsyncRedisOnlineStore(redis_url, namespace, timeout_s=timeout_s, retry_s=retry_s, pool_size=pool_size)
        return cls(store, **options)

    async def get(
        self,
        features: str | Sequence[str],
        entities: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        as_of_us: int | None = None,
        request: RequestValues = None,
    ) -> FeatureVectors:
        """See :meth:`FeatureClient.get`."""
        steps = self._look_up.steps(features, entities, as_of_us, request)
        reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                found: FeatureVectors = end.value
                return found
            reply = await step(self._store)

    async def close(self) -> None:
        """Give the connections of this event loop back."""
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
