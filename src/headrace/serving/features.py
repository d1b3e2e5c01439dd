"""Look-ups for applications: value(V, t) of many entities over many views, with V, t, age and status.

A look-up takes one round trip. A single node of Redis is read in one ``MULTI … EXEC``, each shard of a cluster by one
script, all of them at once.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self, Unpack, cast

from headrace.errors import DefinitionError
from headrace.features.online.redis.store_options import StoreOptions
from headrace.serving.feature_vectors import FeatureVectors, Status, ViewAnswer
from headrace.serving.look_up import (
    ClientOptions,
    GetDocuments,
    LookUp,
    LookUpOptions,
    ReadViews,
    ServiceName,
    Step,
    Steps,
    ViewNames,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from types import TracebackType

    from headrace.features.kernel.on_demand import RequestValues
    from headrace.features.online.store import OnlineStore
    from headrace.serving.left_out import LeftOutRecords
    from headrace.serving.look_up import Entities

__all__ = ["FeatureClient", "FeatureVectors", "Status", "ViewAnswer"]


class FeatureClient:
    """Looks features up for an application. It needs no definition code: the definitions come from the store.

    ``headrace.connect().features()`` makes one. Options:

    - ``clock`` gives t: a function that returns microseconds (default: the wall clock), or ``"stream"`` for the largest
      partition clock that the look-up finds and that is not ahead of the wall clock by more than its stream may be. If
      the machine's clock is behind the newest event, the newest event's time is used as t. The answer carries the t
      that was used.
    - ``heartbeat_bound="5s"``: a worker's heartbeat older than this makes values ``stale``.
    - ``service_cache="0s"``: how long the client reuses a service's list of views, and a view's version. With 0 each
      look-up reads them again, in the round trip that it takes anyway.
    - ``cache="0s"``: how long the client reuses the bytes that the store returned. It keeps at most
      ``cache_entries`` (10,000) pairs of view and entity. Values and ages are still computed at t; V is that of the
      bytes. For up to ``cache`` the client may miss new events, a rebuild, or a change of the service's views.

    Safe to share between threads if the store is.
    """

    def __init__(self, store: OnlineStore, **options: Unpack[LookUpOptions]) -> None:
        self._store = store
        self._look_up = LookUp(**options)
        self._own = ExitStack()

    @classmethod
    def from_url(cls, redis_url: str, namespace: str = "headrace", **options: Unpack[ClientOptions]) -> Self:
        """Return a client of the store at a Redis URL. It closes its connections when it is closed.

        ``options`` are those of the class, and three of the store: ``timeout="5s"`` (how long a look-up waits for an
        answer), ``retry="1s"`` (how long a look-up with a failure that may pass is sent again, with exponential backoff
        and full jitter), ``pool_size=None`` (the largest number of connections to one node). A look-up takes at most
        ``timeout`` and ``retry`` together. Raises SettingsError for a URL that cannot be read.

        >>> from headrace import FeatureClient
        >>> client = FeatureClient.from_url("redis://localhost:6379", "shop", timeout="50ms", cache="100ms")
        >>> client.close()
        """
        from headrace.features.online.redis.redis_store import RedisOnlineStore  # noqa: PLC0415

        of_store, of_look_up = split_options(options)
        store = RedisOnlineStore(redis_url, namespace, **of_store)
        client = cls(store, **of_look_up)
        client._own.callback(store.close)
        return client

    def get(
        self, service: str, entities: Entities, *, as_of: datetime | None = None, request: RequestValues = None
    ) -> FeatureVectors:
        """Look up the features of a service, for one entity or many.

        An entity is a mapping that holds the join keys, and may hold more. A join key that is absent or None gives
        ``missing``. ``as_of`` asks for the values at exactly that time, instead of now.

        ``request`` brings the values that the service's on-demand features need: one mapping for all entities, or one
        for each. A value that it lacks is taken from the entity.

        Raises FeaturesUnknownError (no such service), EntityKeyError (a key of the wrong type), RequestValueError (a
        value that is missing or of the wrong type) and OnlineStoreUnavailableError.

        >>> import headrace
        >>> flights = [{"origin": "JFK", "dest": "LAX", "carrier": "B6"}, {"origin": "BOS", "dest": "SFO"}]
        >>> with headrace.connect() as hr:
        ...     found = hr.features().get("delay", flights, request={"scheduled_at": "2013-07-04T22:00:00Z"})
        >>> found.rows, found.columns[:2]
        (2, ['airport__departures_1h', 'airport__departures_3h'])
        >>> found.statuses(1)["airport"].value
        'missing'
        """
        return self._take(self._look_up.steps(service_name(service), entities, as_of, request))

    def get_views(
        self,
        views: str | Sequence[str],
        entities: Entities,
        *,
        as_of: datetime | None = None,
        left_out: LeftOutRecords | None = None,
    ) -> FeatureVectors:
        """Look up all features of one view or several, for one entity or many.

        ``name`` means the version of the view that is deployed and has caught up; ``name@version`` means that version.
        Entities, ``as_of`` and errors are those of :meth:`get`. ``left_out`` are records that do not count, one for
        each entity: then the entities are the events of these records.

        >>> import headrace
        >>> with headrace.connect() as hr:
        ...     found = hr.features().get_views("airport", {"origin": "JFK"})
        >>> found.to_dicts()[0]["airport__departures_1h"]
        0
        """
        return self._take(self._look_up.steps(view_names(views), entities, as_of, left_out=left_out))

    def _take(self, steps: Steps) -> FeatureVectors:
        try:
            step = next(steps)
            while True:
                step = steps.send(self._reply(step))
        except StopIteration as end:
            found: FeatureVectors = end.value
            return found

    def _reply(self, step: Step) -> Any:
        match step:
            case GetDocuments(names):
                return self._store.get_documents(names)
            case ReadViews(wanted, ()):
                return (), self._store.look_up(wanted)
            case ReadViews(wanted, documents):
                return self._store.look_up_with(documents, wanted)

    def close(self) -> None:
        """Close the connections that :meth:`from_url` opened. A store that was handed in stays open."""
        self._own.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def service_name(service: str) -> ServiceName:
    """Return the service of a look-up. Raises DefinitionError if ``service`` is not text, such as a list of views."""
    if not isinstance(service, str):
        raise DefinitionError(f"{service!r} is not the name of a feature service; look views up with get_views")
    return ServiceName(service)


def view_names(views: str | Sequence[str]) -> ViewNames:
    """Return the views of a look-up."""
    return ViewNames((views,) if isinstance(views, str) else tuple(views))


def split_options(options: ClientOptions) -> tuple[StoreOptions, LookUpOptions]:
    """Return the options of the store, then all other options."""
    names = StoreOptions.__optional_keys__
    of_store = {name: value for name, value in options.items() if name in names}
    of_look_up = {name: value for name, value in options.items() if name not in names}
    return cast("StoreOptions", of_store), cast("LookUpOptions", of_look_up)
