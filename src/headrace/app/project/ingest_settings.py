"""The settings of `headrace ingest`: each table ``[[ingest]]`` is a source of events for a stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    Field,
    NonNegativeInt,
    PlainSerializer,
    SecretStr,
    model_validator,
)

from headrace.app.project.setting_types import STRICT, DurationText, client_properties
from headrace.base.redaction import SecretUrl
from headrace.base.zones import time_zone
from headrace.bus.kafka_servers import shown
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence


def _zone(name: str) -> str:
    try:
        time_zone(name)
    except DefinitionError as error:
        raise ValueError(str(error)) from error
    return name


def _postgres_url(url: str) -> str:
    if not url.startswith(("postgresql://", "postgres://")):
        raise ValueError("write a URL, such as postgresql://reader@db:5432/shop")
    return SecretUrl(url)


def _names(given: Any) -> Any:
    """Return a list for one name. Raises ValueError for what is no name and no list of names."""
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError('write the name of a column, such as "id", or a list such as ["shop", "id"]')
    return names


_OF_KIND = {
    "folder": ("format", "zone", "settle"),
    "webhook": (),
    "topic": ("bootstrap_servers", "kafka", "format"),
    "postgres": ("table", "query", "watermark", "key", "zone", "interval", "lag", "longest_transaction",
                 "password_file", "password_env"),
}  # fmt: skip
"""The kinds of sources: the setting that makes an entry one, and the settings that it may have beside it."""
FORMATS = {"folder": ("jsonl", "csv", "parquet"), "topic": ("json", "cloudevents", "avro", "json-schema")}
"""The values of ``format``, by the kind of source."""
SECRET_SETTINGS = frozenset({"postgres", "kafka"})
"""The settings of an entry that an error does not show."""


class IngestSettings(BaseModel):
    """One source of events for a stream: a folder, a webhook, another topic, or a database."""

    model_config = STRICT
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Name of the source, in logs and metrics, and of the folder of its state.",
    )
    stream: str = Field(description="Topic of the stream that the events are for.")
    folder: Path | None = Field(
        default=None, description="Folder of the files. A relative one starts at the project's folder."
    )
    webhook: str | None = Field(
        default=None,
        pattern=r"^(/[A-Za-z0-9._~-]+)+$",
        description="Path of the webhook, such as /payments, on the server of the table [webhook].",
    )
    topic: str | None = Field(default=None, description="Topic to copy to the stream's topic.")
    bootstrap_servers: str | None = Field(
        default=None, description="Kafka of that topic, host:port[,…]. Not set: the Kafka of the streams."
    )
    kafka: Annotated[dict[str, str], BeforeValidator(client_properties), PlainSerializer(shown)] = Field(
        default={}, repr=False, description="Properties of Kafka's client for these `bootstrap_servers`, as in [kafka]."
    )
    format: Literal["jsonl", "csv", "parquet", "json", "cloudevents", "avro", "json-schema"] | None = Field(
        default=None,
        description="How all files are written, or the records of a topic. Not set: the end of a file's name says it; "
        "records are written as those of the stream.",
    )
    zone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, description="Zone of times that are written without one, such as UTC. Not set: they are rejected."
    )
    settle: DurationText = Field(default="2s", description="How long a file must not have changed before it is read.")

    postgres: Annotated[str, AfterValidator(_postgres_url), PlainSerializer(str)] | None = Field(
        default=None, description="URL of a Postgres database: postgresql://user@host:5432/database."
    )
    password_file: Path | None = Field(default=None, description="File with the password of the database's user.")
    password_env: str | None = Field(default=None, description="Environment variable with that password.")
    table: str | None = Field(
        default=None, description="Table to read, letter by letter, with its schema before a dot: shop.payments."
    )
    query: str | None = Field(default=None, description="Query to read, in place of a table: SELECT … FROM ….")
    watermark: str | None = Field(
        default=None, description="Column that grows with every new row or change: a timestamp or a whole number."
    )
    key: Annotated[list[str], BeforeValidator(_names)] = Field(
        default=[], description="Column, or list of columns, that is another for each row: the primary key."
    )
    interval: DurationText = Field(default="1s", description="Time between two looks at a database.")
    lag: DurationText = Field(
        default="5s", description="How long a row of a database is left alone: more than clocks differ."
    )
    longest_transaction: DurationText = Field(
        default="1h", description="How long a transaction is waited for that may still add rows."
    )

    @property
    def kind(self) -> str:
        """Which kind of source it is: the name of the setting that says where its events are."""
        return next(kind for kind in _OF_KIND if getattr(self, kind) is not None)

    @model_validator(mode="after")
    def _check_source(self) -> IngestSettings:
        """Refuse an entry that has no source or two, settings of another kind of source, and half a database."""
        given = [kind for kind in _OF_KIND if getattr(self, kind) is not None]
        every = ", ".join(f"`{kind}`" for kind in _OF_KIND)
        if len(given) != 1:
            came = " and ".join(f"`{kind}`" for kind in given) or "none"
            raise ValueError(f"it has {came} of {every}: give one of them")
        foreign = sorted({name for of in _OF_KIND.values() for name in of} - {*_OF_KIND[given[0]]})
        wrong = next((name for name in foreign if name in self.model_fields_set), None)
        if wrong is not None:
            raise ValueError(f"a {given[0]} has no {wrong!r}: leave it out")
        if self.postgres is not None:
            self._check_database()
        elif self.topic is not None:
            self._check_topic()
        self._check_format(given[0])
        return self

    def _check_format(self, kind: str) -> None:
        known = FORMATS.get(kind, ())
        if self.format is not None and self.format not in known:
            raise ValueError(f"format = {self.format!r} is none of a {kind}: {', '.join(known)}")

    def _check_topic(self) -> None:
        if self.topic == self.stream and self.bootstrap_servers is None:
            raise ValueError("`topic` is the topic of its own stream: its records would be copied for ever")
        if self.kafka and self.bootstrap_servers is None:
            raise ValueError("`kafka` has the properties of `bootstrap_servers`: give both, or leave `kafka` out")

    def _check_database(self) -> None:
        if (self.table is None) == (self.query is None):
            raise ValueError("it has neither of `table` and `query`, or both: give one of them")
        if self.watermark is None or not self.key:
            raise ValueError("give the `watermark`, a column that grows, and the `key`, which is another for each row")
        if self.password_file is not None and self.password_env is not None:
            raise ValueError("`password_file` and `password_env` are the same secret: give one of them")


class WebhookSettings(BaseModel):
    """The HTTP server of `headrace ingest`: it runs if an entry has a webhook."""

    model_config = STRICT
    host: str = Field(
        default="127.0.0.1",
        description="Address that webhooks listen on. Others than 127.0.0.1, ::1 and localhost need a token.",
    )
    port: NonNegativeInt = Field(default=8_081, le=65_535, description="Port that webhooks listen on.")
    token: SecretStr | None = Field(
        default=None,
        description="Bearer token that requests to webhooks must have. Set it in the environment: "
        "HEADRACE_WEBHOOK__TOKEN.",
    )
    token_file: Path | None = Field(
        default=None, description="File with one token a line. A request must have one of them. # begins a comment."
    )
    body_limit: ByteSize = Field(default=ByteSize(1 << 20), description="Largest body of a request to a webhook.")
    deadline: DurationText = Field(
        default="10s", description="Longest time of a request to a webhook. After it the answer is 503."
    )


def check_names(entries: list[IngestSettings]) -> list[IngestSettings]:
    """Return the entries. Raises ValueError if two of them have one name, or webhooks on one path."""
    for what in ("name", "webhook"):
        values = Counter(getattr(each, what) for each in entries)
        twice = [value for value, count in values.items() if count > 1 and value is not None]
        if twice:
            raise ValueError(f"two tables [[ingest]] have the {what} {twice[0]!r}: give each a {what} of its own")
    return entries


def entry_at(entries: Sequence[Any], place: int) -> str:
    """Return how errors name an entry: by its place in headrace.toml, counted from 1, and its name if it has one."""
    entry = entries[place]
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"[[ingest]] {place + 1}" + (f" ({name!r})" if isinstance(name, str) else "")
