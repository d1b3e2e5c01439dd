"""Look-ups: value(V, t) of many entities over many views in one pipelined round trip, with V, t, age and status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from headrace.serving.look_up import LookUp, Options
from headrace.serving.vectors import Features, Status, ViewAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.online import OnlineStore

__all__ = ["FeatureClient", "Features", "Status", "ViewAnswer"]


class FeatureClient:
    """Looks features up for an application, which needs no definition code: the specs travel through the store.

    ``clock`` gives t: a function returning microseconds (default the wall clock), or ``"stream"`` for the largest
    partition clock that the look-up finds. t is never behind that one, as clocks of machines differ: what is known has
    happened. The answer carries the t that was used. A heartbeat older than ``heartbeat_bound_us`` makes values
    ``stale``. ``services_ms``: how long, in milliseconds, the views of a service may be remembered (0: each look-up
    asks). Safe to share between threads if the store is.
    """

    def __init__(self, store: OnlineStore, **options: Unpack[Options]) -> None:
        self._store = store
        self._look_up = LookUp(**options)

    @classmethod
    def from_url(cls, redis_url: str, namespace: str = "headrace", **options: Any) -> FeatureClient:
        """A client of the store at a Redis URL."""
        from headrace.features.redis_store import RedisOnlineStore  # noqa: PLC0415

        return cls(RedisOnlineStore(redis_url, namespace), **options)

    def get(
        self,
        features: str | Sequence[str],
        entities: Mapping[str, Any] | Sequence[Mapping[str, Any]],
        *,
        as_of_us: int | None = None,
    ) -> Features:
        """Look up a feature service by name, or a list of views ``name@version``, for one or many entities.

        Each entity is a mapping that holds the join keys (and perhaps more). A join key that is absent or None gives
        ``missing``. ``as_of_us`` asks for exactly that t instead of the clock's. Raises FeaturesUnknownError
        (no such service or view), EntityKeyError (a key of the wrong type) and OnlineStoreUnavailableError.
        """
        steps = self._look_up.steps(features, entities, as_of_us)
        reply = None
        try:
            while True:
                reply = steps.send(reply)(self._store)
        except StopIteration as end:
            found: Features = end.value
            return found
