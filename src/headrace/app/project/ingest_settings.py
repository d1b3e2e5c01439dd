"""The settings of `headrace ingest`: each table ``[[ingest]]`` is a source of events for a stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ByteSize, Field, NonNegativeInt, SecretStr, model_validator

from headrace.app.project.setting_types import STRICT, DurationText

if TYPE_CHECKING:
    from collections.abc import Sequence


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError) as error:
        raise ValueError(f"{name!r} is no time zone: write a name such as UTC or Europe/Berlin") from error
    return name


class IngestSettings(BaseModel):
    """One source of events for a stream: new files of a folder, or what is posted to a webhook."""

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
    format: Literal["jsonl", "csv", "parquet"] | None = Field(
        default=None, description="How all files are written. Not set: the end of a file's name says it."
    )
    zone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, description="Zone of times that are written without one, such as UTC. Not set: they are rejected."
    )
    settle: DurationText = Field(default="2s", description="How long a file must not have changed before it is read.")

    @model_validator(mode="after")
    def _check_source(self) -> IngestSettings:
        """Refuse an entry that has no source or two, and settings of files for a webhook."""
        if (self.folder is None) == (self.webhook is None):
            came = "neither" if self.folder is None else "both"
            raise ValueError(f"it has {came} of `folder` and `webhook`: give one of them")
        of_files = sorted({"format", "zone", "settle"} & self.model_fields_set)
        if self.webhook is not None and of_files:
            raise ValueError(f"a webhook has no {of_files[0]!r}: leave it out")
        return self


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
