"""Look-ups: value(V, t) of many entities over many views in one pipelined round trip, with V, t, age and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from headrace.serving.feature_vectors import FeatureVectors, Status, ViewAnswer
from headrace.serving.look_up import ClientOptions, LookUp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import OnlineStore

__all__ = ["FeatureClient", "FeatureVectors", "Status", "ViewAnswer"]


class FeatureClient:
    """Looks features up for an application, which needs no definition code: the specs travel through the store.

    ``clock`` gives t: a function returning microseconds (default the wall clock), or ``"stream"`` for the largest
    partition clock that the look-up finds. t is never behind that one, as clocks of machines differ: what is known has
    happened. The answer carries the t that was used. A heartbeat older than ``heartbeat_bound_us`` makes values
    ``stale``. ``services_ms``: how long, in milliseconds, the views of a service may be remembered (0: each look-up
    asks, in the round trip that it takes anyway).

    ``cache_ms``: how long what the store said of an entity in a view may be used again (0: not at all), of at most
    ``cache_entries``, the newest. Values are worked out at t all the same, and age; V is that of what was read. What a
    worker folded since, that a view is being rebuilt, or that a service has other views, is seen so much later.

    Safe to share between threads if the store is.
    """

    def __init__(self, store: OnlineStore, **options: Unpack[ClientOptions]) -> None:
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
    ) -> FeatureClient:
        """A client of the store at a Redis URL.

        A look-up waits ``timeout_s`` for an answer. What fails for now, as while a master fails over, is tried again
        until ``retry_s`` after it was asked first (0: never), with exponential backoff and full jitter. So a look-up
        takes at most both together. ``pool_size``: how many connections there may be to a node (None: as many as there
        are look-ups at a time). Raises SettingsError for a URL that cannot be read.
        """
        from headrace.features.online.redis.redis_store import RedisOnlineStore  # noqa: PLC0415

        store = RedisOnlineStore(redis_url, namespace, timeout_s=timeout_s, retry_s=retry_s, pool_size=pool_size)
        return cls(store, **options)

    def get(
        self,
        features: str | Sequence[str],
        entities: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        as_of_us: int | None = None,
        request: RequestValues = None,
    ) -> FeatureVectors:
        """Look up a feature service by name, or a list of views ``name@version``, for one or many entities.

        Each entity is a mapping that holds the join keys (and perhaps more). A join key that is absent or None gives
        ``missing``. ``as_of_us`` asks for exactly that t instead of the clock's.

        ``request`` brings the values that the service's on-demand features are made of: one mapping for all entities,
        or one each. What it does not have is taken from the entity itself; a list of views needs none.

        Raises FeaturesUnknownError (no such service or view), EntityKeyError (a key of the wrong type),
        RequestValueError (a value that is missing or of the wrong type) and OnlineStoreUnavailableError.
        """
        steps = self._look_up.steps(features, entities, as_of_us, request)
        reply = None
        try:
            while True:
                reply = steps.send(reply)(self._store)
        except StopIteration as end:
            found: FeatureVectors = end.value
            return found
