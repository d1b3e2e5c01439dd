"""The entry of an application to headrace: ``headrace.connect()``."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack, closing
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack

from headrace.serving.server_addresses import ServerAddresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from headrace.base.times import Duration
    from headrace.bus.producer import EventProducer
    from headrace.bus.schemas.schema_store import SchemaStore
    from headrace.serving.async_features import AsyncFeatureClient
    from headrace.serving.features import FeatureClient
    from headrace.serving.look_up import ClientOptions
    from headrace.serving.model_event_feed import ModelEventFeed
    from headrace.serving.predictor import Predictor, PredictorOptions

    Client = TypeVar("Client", FeatureClient, AsyncFeatureClient)


def connect(
    bootstrap_servers: str | None = None, *, redis_url: str | None = None, namespace: str | None = None
) -> Connection:
    """Give an application everything: features, predictions, model events, and a producer of events.

    Without arguments it finds Kafka and Redis by itself: in the environment (``HEADRACE_BOOTSTRAP_SERVERS``,
    ``HEADRACE_REDIS_URL``, ``HEADRACE_NAMESPACE``), else in the nearest headrace.toml, else in the services that
    ``headrace up`` runs. An argument comes before all of them. Raises SettingsError if an address is in none of these
    places.

    Nothing is opened before it is used, and the connection closes what it opened.

    >>> import headrace
    >>> flight = {"origin": "JFK", "dest": "LAX", "carrier": "B6", "scheduled_at": "2013-07-04T22:00:00Z"}
    >>> with headrace.connect() as hr:
    ...     found = hr.features().get("delay", flight)
    ...     versions = [event.data.version for event in hr.model_events("punctuality")]
    ...     p = hr.predictor("punctuality", fallback=0.2).predict({"flight_id": 7})
    >>> found.columns[0], found.to_lists()[0][0]
    ('airport__departures_1h', 0)
    >>> versions, p.value  # there is no version of this model yet
    ([], 0.2)
    """
    return Connection(ServerAddresses.find(bootstrap_servers, redis_url=redis_url, namespace=namespace))


class Connection:
    """The parts of headrace that an application uses. :func:`headrace.connect` makes it.

    Use it as a context, also as an asynchronous one, or ``close`` it. Safe to share between threads.
    """

    def __init__(self, addresses: ServerAddresses) -> None:
        self.addresses = addresses
        self._opened = ExitStack()
        self._opened_async = AsyncExitStack()
        self._clients: dict[tuple[Any, ...], Any] = {}

    def features(self, **options: Unpack[ClientOptions]) -> FeatureClient:
        """Return a client for look-ups. Calls with the same options return the same client.

        Safe to share between threads.

        The options are those of :class:`FeatureClient`, and ``timeout``, ``retry`` and ``pool_size`` of its store.

        >>> import headrace
        >>> with headrace.connect() as hr:
        ...     client = hr.features(cache="100ms", timeout="50ms")
        ...     client.get_views("airport", {"origin": "JFK"}).statuses()["airport"].value
        'missing'
        """
        from headrace.serving.features import FeatureClient  # noqa: PLC0415 - a connection costs what it is used for

        return self._client(FeatureClient, options, lambda made: self._opened.callback(made.close))

    def async_features(self, **options: Unpack[ClientOptions]) -> AsyncFeatureClient:
        """Return a client for look-ups on asyncio. Calls with the same options return the same client.

        ``async with headrace.connect() as hr`` closes its connections. Otherwise they end with their event loop.
        """
        from headrace.serving.async_features import AsyncFeatureClient  # noqa: PLC0415

        return self._client(
            AsyncFeatureClient, options, lambda made: self._opened_async.push_async_callback(made.close)
        )

    def _client(self, kind: type[Client], options: ClientOptions, close_later: Callable[[Client], Any]) -> Client:
        key = (kind, *sorted(options.items()))
        client: Client | None = self._clients.get(key)
        if client is None:
            client = kind.from_url(self.addresses.redis_url, self.addresses.namespace, **options)
            self._clients[key] = client
            close_later(client)
        return client

    def producer(self, *, linger: Duration = "1ms", timeout: Duration = "30s") -> EventProducer:
        """Return a new producer of events. It is for one thread: call this once for each thread that produces.

        Everything that was sent is delivered before the connection is closed. ``linger`` and ``timeout`` are those of
        :class:`EventProducer`.
        """
        from headrace.bus.producer import EventProducer  # noqa: PLC0415

        producer = EventProducer(
            self.addresses.bootstrap_servers, linger=linger, timeout=timeout, schemas=self._schemas()
        )
        self._opened.callback(producer.flush)
        return producer

    def _schemas(self) -> SchemaStore | None:
        if self.addresses.schema_registry is None:
            return None
        from headrace.bus.schemas.confluent_schema_registry import ConfluentSchemaRegistry  # noqa: PLC0415
        from headrace.bus.schemas.schema_store import SchemaStore  # noqa: PLC0415

        schemas = SchemaStore(ConfluentSchemaRegistry(self.addresses.schema_registry))
        self._opened.callback(schemas.close)
        return schemas

    def predictor(self, model: str, **options: Unpack[PredictorOptions]) -> Predictor:
        """Return a new predictor of a model: it follows the model's versions until the connection is closed.

        The options are those of :class:`Predictor`.
        """
        from headrace.serving.predictor import Predictor  # noqa: PLC0415

        return self._opened.enter_context(Predictor(model, self.addresses, **options))

    def model_events(self, model: str | None = None) -> ModelEventFeed:
        """Return the model events of one model, or of all models: which version was published, and why.

        Iterate over it for all events so far; ``follow()`` goes on with those to come.
        """
        from headrace.bus.control_topics import ControlTopics  # noqa: PLC0415
        from headrace.models.kafka_model_event_log import KafkaModelEventLog  # noqa: PLC0415
        from headrace.serving.model_event_feed import ModelEventFeed  # noqa: PLC0415

        where = self.addresses
        topic = ControlTopics(where.namespace).models
        log = KafkaModelEventLog(where.bootstrap_servers, topic, signing=where.signing)
        return ModelEventFeed(self._opened.enter_context(closing(log)), model)

    def close(self) -> None:
        """Close everything that was opened here, the newest first. Waits until produced events are delivered."""
        self._clients.clear()
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._opened_async.aclose()
        finally:
            self.close()
