"""The settings of `headrace ingest`: each table ``[[ingest]]`` is a source of events for a stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, Field

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
    """One source: new files of a folder become events of a stream."""

    model_config = STRICT
    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Name of the source, in logs and metrics, and of the folder of its state.",
    )
    stream: str = Field(description="Topic of the stream that the events are for.")
    folder: Path = Field(description="Folder of the files. A relative one starts at the project's folder.")
    format: Literal["jsonl", "csv", "parquet"] | None = Field(
        default=None, description="How all files are written. Not set: the end of a file's name says it."
    )
    zone: Annotated[str, AfterValidator(_zone)] | None = Field(
        default=None, description="Zone of times that are written without one, such as UTC. Not set: they are rejected."
    )
    settle: DurationText = Field(default="2s", description="How long a file must not have changed before it is read.")


def check_names(entries: list[IngestSettings]) -> list[IngestSettings]:
    """Return the entries. Raises ValueError if two of them have one name."""
    twice = [name for name, count in Counter(each.name for each in entries).items() if count > 1]
    if twice:
        raise ValueError(f"two tables [[ingest]] have the name {twice[0]!r}: give each a name of its own")
    return entries


def entry_at(entries: Sequence[Any], place: int) -> str:
    """Return how errors name an entry: by its place in headrace.toml, counted from 1, and its name if it has one."""
    entry = entries[place]
    name = entry.get("name") if isinstance(entry, dict) else None
    return f"[[ingest]] {place + 1}" + (f" ({name!r})" if isinstance(name, str) else "")
