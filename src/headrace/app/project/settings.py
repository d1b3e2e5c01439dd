"""The settings of a project. Each setting knows where its value came from.

A flag beats an environment variable `HEADRACE_…`, which beats `headrace.toml`, which beats the default. Constructing
`Settings` reads only its arguments. Only `load_settings` reads the environment and the file.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads annotations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    NonNegativeInt,
    PositiveInt,
    PrivateAttr,
    SecretStr,
    model_validator,
)

from headrace.app.project.ingest_settings import IngestSettings, WebhookSettings, check_names
from headrace.app.project.schema_registry_settings import SchemaRegistrySettings
from headrace.app.project.setting_types import STRICT, DurationText, PublicPlace, UrlWithPassword, client_properties
from headrace.app.project.ui_settings import UiSettings
from headrace.base.place_names import check_folder_name
from headrace.base.redaction import redacted
from headrace.bus.control_topics import DEFAULT_NAMESPACE, LONGEST_NAMESPACE, NAMESPACE, ControlTopics
from headrace.bus.kafka_servers import KafkaServers, read_secrets, shown
from headrace.errors import SettingsError
from headrace.models.artifact_urls import check_place, scheme_of
from headrace.models.publication_signing import PublicationSigning


def _usable(folder: Path) -> Path:
    try:
        check_folder_name(folder, "the data folder")
    except SettingsError as error:
        raise ValueError(str(error)) from error
    return folder


class ProjectSettings(BaseModel):
    """The modules with the definitions, by import path from the folder of headrace.toml."""

    model_config = STRICT
    streams: list[str] = Field(default=["streams"], description="Modules that say what arrives: Stream objects.")
    features: list[str] = Field(
        default=["features"], description="Modules that say what is remembered: Entity, FeatureView, FeatureService."
    )
    trainers: list[str] = Field(
        default=["trainers"], description="Modules that say what is learnt, and when: Model objects."
    )

    @property
    def modules(self) -> list[str]:
        """All modules in the order of their import, without duplicates."""
        return list(dict.fromkeys([*self.streams, *self.features, *self.trainers]))


class DemoSettings(BaseModel):
    """The settings of `headrace demo`."""

    model_config = STRICT
    months: PositiveInt = Field(default=6, le=12, description="Months of 2013 to replay, from January on.")
    source: str = Field(
        default="streams.history:history",
        pattern=r"^[\w.]+:\w+$",
        description="What to replay: a module:function of the project. It is called with the number of months.",
    )
    seed: NonNegativeInt = Field(
        default=0, description="Seed of every random choice. The same seed gives the same report."
    )


class TrainerSettings(BaseModel):
    """The settings of `headrace trainer`: the limits of a fit. They hold for all processes that a fit starts."""

    model_config = STRICT
    fit_time: DurationText = Field(default="1h", description="Longest time of a fit. After it the run fails.")
    fit_memory: ByteSize | None = Field(
        default=None,
        description="Largest memory of a fit with all its processes, such as 4GiB. Beyond it the run fails. Not set: "
        "no limit.",
    )


class HttpSettings(BaseModel):
    """The settings of `headrace serve`."""

    model_config = STRICT
    host: str = Field(default="127.0.0.1", description="Address that the HTTP server listens on; 0.0.0.0 for all.")
    port: NonNegativeInt = Field(default=8_080, le=65_535, description="Port that the HTTP server listens on.")
    workers: PositiveInt = Field(default=1, description="Number of processes that answer, ideally one for each core.")
    services: list[str] = Field(
        default=[],
        description="Feature services that the server needs to be ready.",
    )
    api_key: SecretStr | None = Field(
        default=None, description="Key that requests must have. Set it in the environment: HEADRACE_HTTP__API_KEY."
    )
    api_key_file: Path | None = Field(
        default=None, description="File with one key a line. A request must have one of them. # begins a comment."
    )
    tls_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate and its chain. It turns on TLS."
    )
    tls_key: Path | None = Field(default=None, description="PEM file of the certificate's private key.")
    tls_key_password: SecretStr | None = Field(default=None, description="Password of the private key.")
    tls_client_ca: Path | None = Field(
        default=None, description="PEM file of the authorities that may sign a client's certificate."
    )
    body_limit: ByteSize = Field(default=ByteSize(1 << 20), description="Largest body of a request, in bytes.")
    entity_limit: PositiveInt = Field(default=1_000, description="Largest number of entities in a request.")
    key_limit: PositiveInt = Field(
        default=10_000, description="Largest number of entities times views in a request that names views."
    )
    deadline: DurationText = Field(default="2s", description="Longest time of a request. After it the answer is 504.")
    head_limit: ByteSize = Field(
        default=ByteSize(16 << 10), description="Largest head of a request (URL and headers), in bytes."
    )
    head_timeout: DurationText = Field(default="5s", description="Longest time until the head of a request has come.")
    connection_limit: PositiveInt = Field(
        default=1_000,
        description="Largest number of connections of a process. A new one then takes the place of the one that has "
        "waited longest for a request.",
    )
    cache: DurationText = Field(
        default="0s",
        description="How long the bytes that Redis returned for an entity and view are used again, such as 100ms. "
        "Newer events are seen up to that much later.",
    )
    pool_size: PositiveInt | None = Field(
        default=None,
        description="Largest number of connections of a process to a node of Redis. Not set: one for each request that "
        "runs at the same time.",
    )


class Settings(BaseModel):
    """All settings. Relative paths start at `root`.

    >>> from headrace import Settings
    >>> Settings(namespace="shop", redis_url="redis://redis:6379").namespace
    'shop'
    """

    model_config = STRICT
    root: Path = Field(default=Path(), description="The project's folder: the one of headrace.toml.")
    namespace: str = Field(
        default=DEFAULT_NAMESPACE,
        pattern=NAMESPACE,
        max_length=LONGEST_NAMESPACE,
        description="Prefix of Redis keys, control topics and consumer groups, so that projects can share Redis and "
        "Kafka.",
    )
    data_dir: Annotated[Path, AfterValidator(_usable)] = Field(
        default=Path(".headrace"), description="Folder of local services, event log, registry and artifacts."
    )
    bootstrap_servers: str | None = Field(
        default=None, description="Kafka to use, host:port[,…]. Not set: a local Kafka."
    )
    kafka: Annotated[dict[str, str], BeforeValidator(client_properties)] = Field(
        default={},
        repr=False,
        description="Properties of Kafka's client (librdkafka's names) for every client of `bootstrap_servers`, such "
        "as security.protocol. Set secrets in the environment: HEADRACE_KAFKA__SASL_PASSWORD.",
    )
    redis_url: UrlWithPassword | None = Field(
        default=None, description="Redis or Valkey: redis://… (redis+cluster, redis+sentinel). Not set: a local one."
    )
    event_log: PublicPlace = Field(
        default="{data_dir}/events",
        description="Place of the event log's Delta tables: a folder or the URL of an object store.",
    )
    registry_uri: UrlWithPassword = Field(
        default="sqlite:///{data_dir}/registry/mlflow.db", description="MLflow tracking and registry URI."
    )
    artifacts: PublicPlace = Field(
        default="{data_dir}/artifacts",
        description="Place of model artifacts: a folder, the URL of an object store (s3://, gs://, abfs://), or "
        "mlflow-artifacts:/… for an MLflow server that keeps them.",
    )
    feature_store: Path | None = Field(
        default=None,
        description="Folder of Feast's feature_store.yaml. `headrace apply` updates its registry. Not set: the "
        "project's own folder, if it has that file.",
    )
    trusted_types: list[str] = Field(
        default=[],
        description="Types that a model artifact may contain in addition to scikit-learn's own safe types. The list "
        "belongs to this deployment and is never taken from an artifact.",
    )
    artifact_places: list[PublicPlace] = Field(
        default=[],
        description="Further folders and URLs from which model artifacts and manifests are loaded, beside `artifacts`. "
        "A model event cannot name a file anywhere else.",
    )
    publication_keys: list[SecretStr] = Field(
        default=[],
        description="Keys of model events, at least 16 bytes each. The first signs, each verifies. An event without "
        "a valid signature is void. Set them in the environment: HEADRACE_PUBLICATION_KEYS.",
    )
    publications_signed_from: NonNegativeInt = Field(
        default=0,
        description="Offset on the topic of model events from which they need a signature, if signing came later.",
    )
    flush_interval: DurationText = Field(
        default="1s", description="Longest time that a row waits for its commit to the event log."
    )
    batch_size: PositiveInt = Field(
        default=20_000, description="Largest number of records that a worker folds at once."
    )
    memory: ByteSize = Field(
        default=ByteSize(1 << 30),
        description="Largest memory of a worker for cached entities, such as 512MiB. Other entities are read "
        "from Redis again. The buffers of Kafka and of the event log are not counted.",
    )
    metrics_host: str = Field(
        default="127.0.0.1", description="Address on which worker, trainer, ingest and process serve metrics."
    )
    metrics_port: NonNegativeInt = Field(
        default=0, le=65_535, description="Port on which a worker serves metrics for Prometheus; 0: none."
    )
    trainer_metrics_port: NonNegativeInt = Field(
        default=0, le=65_535, description="Port on which a trainer serves metrics for Prometheus; 0: none."
    )
    compact_interval: DurationText = Field(
        default="10m", description="How often workers merge small files of the event log."
    )
    log_retention: DurationText = Field(
        default="7d",
        description="How long replaced files of the event log are kept: at least 7d, and longer than the longest "
        "training run.",
    )
    feature_tables: PublicPlace = Field(
        default="{data_dir}/features", description="Folder of the tables of feature values."
    )
    feature_tables_interval: DurationText = Field(
        default="0s",
        description="How often workers update the tables of feature values; 0s: never. The first time everything that "
        "a view uses of its stream is in the worker's memory, later the rows of its longest window.",
    )
    audit_interval: DurationText = Field(
        default="0s",
        description="How often workers audit the vectors served since the last time, and measure the skew; 0s: never. "
        "Each time everything that a model's views use of their streams is in the worker's memory.",
    )
    heartbeat_bound: DurationText = Field(
        default="5s", description="Age of a worker's heartbeat beyond which look-ups answer `stale`."
    )
    clock: Literal["wall", "stream", "control"] = Field(
        default="wall",
        description="The clock: the machine's (wall), the largest partition clock (stream), or the ticks on the topic "
        "control (control, for a lockstep replay).",
    )
    tick: DurationText = Field(
        default="1m", description="How often trigger rules are evaluated, on the injected clock."
    )
    ingest: Annotated[list[IngestSettings], AfterValidator(check_names)] = Field(
        default=[], description="Sources of events: each is a table [[ingest]] of headrace.toml."
    )
    webhook: WebhookSettings = Field(default_factory=WebhookSettings, description="The HTTP server of webhooks.")
    ingest_metrics_port: NonNegativeInt = Field(
        default=0, le=65_535, description="Port on which `headrace ingest` serves metrics for Prometheus; 0: none."
    )
    process_metrics_port: NonNegativeInt = Field(
        default=0, le=65_535, description="Port on which `headrace process` serves metrics for Prometheus; 0: none."
    )
    process_batch_size: PositiveInt = Field(
        default=5_000, description="Largest number of records that the function of a processor gets at once."
    )
    trainer: TrainerSettings = Field(default_factory=TrainerSettings, description="The trainer.")
    http: HttpSettings = Field(default_factory=HttpSettings, description="The HTTP server.")
    ui: UiSettings = Field(default_factory=UiSettings, description="The live page.")
    schema_registry: SchemaRegistrySettings = Field(
        default_factory=SchemaRegistrySettings, description="The schema registry."
    )
    project: ProjectSettings = Field(default_factory=ProjectSettings, description="The modules with the definitions.")
    demo: DemoSettings = Field(default_factory=DemoSettings, description="The demo.")

    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, given: Any) -> Any:
        """Make the folders absolute, and replace {data_dir} in values."""
        if not isinstance(given, dict):
            return given
        values = dict(given)
        root = Path(values.get("root", Path())).expanduser().resolve()
        data_dir = (root / Path(values.get("data_dir", ".headrace")).expanduser()).resolve()
        values |= {"root": root, "data_dir": data_dir}
        for name in ("event_log", "registry_uri", "artifacts", "feature_tables"):
            value = values.get(name, cls.model_fields[name].default)
            if isinstance(value, str):
                values[name] = _anchored(value.replace("{data_dir}", str(data_dir)), root)
        places = values.get("artifact_places", [])
        if isinstance(places, list):
            values["artifact_places"] = [
                _anchored(place.replace("{data_dir}", str(data_dir)), root) if isinstance(place, str) else place
                for place in places
            ]
        return values

    @property
    def signing(self) -> PublicationSigning:
        """The keys that sign and verify model events. Raises SettingsError for a key that is too short."""
        keys = tuple(key.get_secret_value() for key in self.publication_keys)
        return PublicationSigning(keys, self.publications_signed_from)

    @property
    def kafka_servers(self) -> KafkaServers | None:
        """The Kafka that is set, with the properties of its clients; None if none is set. Raises SettingsError."""
        if self.bootstrap_servers is None:
            return None
        return KafkaServers(self.bootstrap_servers, read_secrets(self.kafka, self.root))

    @property
    def topics(self) -> ControlTopics:
        """The control topics of the namespace."""
        return ControlTopics(self.namespace)

    @model_validator(mode="after")
    def _check_places(self) -> Settings:
        """Refuse places at which artifacts cannot be kept: a run would find it out after its fit."""
        try:
            check_place(self.artifacts, "artifacts", self.registry_uri)
            for place in self.artifact_places:
                check_place(place, "artifact_places", self.registry_uri)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    def with_origins(self, origins: Mapping[str, str]) -> Settings:
        """Return a copy that knows where each value came from."""
        known = self.model_copy()
        known._origins = dict(origins)  # noqa: SLF001 - our own copy
        return known

    def origin(self, path: str) -> str:
        """Return where the value of `path` (such as "demo.months") came from."""
        return self._origins.get(path, "default") if self._origins else "given in code"


def leaves(model: type[BaseModel] = Settings, prefix: str = "") -> dict[str, str]:
    """Return the description of every setting by its path: {"namespace": …, "project.streams": …}."""
    found: dict[str, str] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= leaves(inner, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = field.description or ""
    return found


def explain(settings: Settings) -> list[dict[str, Any]]:
    """Return one row for each setting: name, value, origin, description. Passwords in URLs are hidden."""
    plain = settings.model_dump(mode="json")
    plain["kafka"] = shown(settings.kafka)
    return [
        {"name": path, "value": _hide(_at(plain, path)), "origin": settings.origin(path), "description": text}
        for path, text in leaves().items()
    ]


def _at(tree: dict[str, Any], path: str) -> Any:
    value: Any = tree
    for part in path.split("."):
        value = value[part]
    return value


def _hide(value: Any) -> Any:
    return redacted(value) if isinstance(value, str) else value


def _anchored(place: str, root: Path) -> str:
    """Return a folder as an absolute path from `root`, and a URL unchanged."""
    return place if scheme_of(place) else str((root / Path(place).expanduser()).resolve())
