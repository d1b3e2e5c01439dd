"""Look-ups for applications on asyncio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self, Unpack

from headrace.serving.features import service_name, split_options, view_names
from headrace.serving.look_up import ClientOptions, GetDocuments, LookUp, LookUpOptions, ReadViews, Step, Steps

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import StoredFields, WantedKeys
    from headrace.serving.feature_vectors import FeatureVectors
    from headrace.serving.look_up import Entities


class AsyncStore(Protocol):
    """The reads of an online store that look-ups need, for asyncio."""

    async def look_up(self, wanted: WantedKeys) -> list[StoredFields]:
        """Return the fields and cursors of each view, as ``OnlineStore.look_up`` does."""
        ...

    async def look_up_with(
        self, documents: Sequence[str], wanted: WantedKeys
    ) -> tuple[list[dict[str, Any] | None], list[StoredFields]]:
        """Return documents and fields from one round trip, as ``OnlineStore.look_up_with`` does."""
        ...

    async def get_documents(self, names: Sequence[str]) -> list[dict[str, Any] | None]:
        """Return the documents of these names, None for each that is absent."""
        ...

    async def close(self) -> None:
        """Give the connections back."""
        ...


class LookUpClient(Protocol):
    """The look-ups that the HTTP server needs: those of :class:`AsyncFeatureClient`."""

    async def get(
        self, service: str, entities: Entities, *, as_of: datetime | None = None, request: RequestValues = None
    ) -> FeatureVectors:
        """Look the features of a service up, as :meth:`FeatureClient.get` does."""
        ...

    async def get_views(
        self, views: str | Sequence[str], entities: Entities, *, as_of: datetime | None = None
    ) -> FeatureVectors:
        """Look the features of views up, as :meth:`FeatureClient.get_views` does."""
        ...


class AsyncFeatureClient:
    """A :class:`FeatureClient` for asyncio: the same options, answers and errors.

    Safe to share between tasks, and between event loops. A task that is cancelled, for example by ``asyncio.timeout``,
    leaves nothing behind. Use it as an asynchronous context, or ``close`` it.

    >>> import asyncio, headrace
    >>> async def departures(origin):
    ...     async with headrace.connect() as hr:
    ...         found = await hr.async_features().get_views("airport", {"origin": origin})
    ...     return found.to_dicts()[0]["airport__departures_1h"]
    >>> asyncio.run(departures("JFK"))
    0
    """

    def __init__(self, store: AsyncStore, **options: Unpack[LookUpOptions]) -> None:
        self._store = store
        self._look_up = LookUp(**options)

    @classmethod
    def from_url(cls, redis_url: str, namespace: str = "headrace", **options: Unpack[ClientOptions]) -> Self:
        """Return a client, as :meth:`FeatureClient.from_url` does; ``pool_size`` counts for each event loop."""
        from headrace.features.online.redis.async_store import AsyncRedisOnlineStore  # noqa: PLC0415

        of_store, of_look_up = split_options(options)
        return cls(AsyncRedisOnlineStore(redis_url, namespace, **of_store), **of_look_up)

    async def get(
        self, service: str, entities: Entities, *, as_of: datetime | None = None, request: RequestValues = None
    ) -> FeatureVectors:
        """Look up the features of a service: see :meth:`FeatureClient.get`."""
        return await self._take(self._look_up.steps(service_name(service), entities, as_of, request))

    async def get_views(
        self, views: str | Sequence[str], entities: Entities, *, as_of: datetime | None = None
    ) -> FeatureVectors:
        """Look up all features of views: see :meth:`FeatureClient.get_views`."""
        return await self._take(self._look_up.steps(view_names(views), entities, as_of))

    async def _take(self, steps: Steps) -> FeatureVectors:
        reply = None
        while True:
            try:
                step = steps.send(reply)
            except StopIteration as end:
                found: FeatureVectors = end.value
                return found
            reply = await self._reply(step)

    async def _reply(self, step: Step) -> Any:
        match step:
            case GetDocuments(names):
                return await self._store.get_documents(names)
            case ReadViews(wanted, ()):
                return (), await self._store.look_up(wanted)
            case ReadViews(wanted, documents):
                return await self._store.look_up_with(documents, wanted)

    async def close(self) -> None:
        """Give the connections of this event loop back."""
        await self._store.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
