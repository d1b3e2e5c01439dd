"""The options that several commands share, and the settings made from them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.base.place_names import check_servers
from headrace.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from headrace.app.project.settings import Settings

DataDir = Annotated[Path | None, typer.Option(help="Folder of local services, event log, registry and artifacts.")]
BootstrapServers = Annotated[str | None, typer.Option(help="Kafka to use instead of a local one, host:port[,…].")]
RedisUrl = Annotated[
    str | None, typer.Option(help="Redis or Valkey to use instead of a local one: redis://…, redis+cluster://…")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")]
StreamOption = Annotated[str | None, typer.Option("--stream", metavar="TOPIC", help="Only the stream of this topic.")]
ModelFilter = Annotated[str | None, typer.Option("--model", help="Only this model (default: all).")]
ModelArgument = Annotated[str, typer.Argument(help="The model.")]
VersionArgument = Annotated[int, typer.Argument(min=1, help="The version, as `headrace models list` shows it.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who decides (default: user@host); kept in the event.")]
MetricsPort = Annotated[
    int | None, typer.Option(min=0, max=65_535, help="Port that serves metrics for Prometheus (default 0: none).")
]
LogLevel = Annotated[str, typer.Option(help="debug, info, warning, error or critical.")]


def settings_from(**flags: Any) -> Settings:
    """Return the settings in force: flags, then environment, then headrace.toml, then defaults.

    A flag that is None was not given. Write "__" for the "." in a setting's name. Raises SettingsError for an address
    that cannot be read.
    """
    settings = unchecked_settings_from(**flags)
    _check(settings, "bootstrap_servers", settings.bootstrap_servers, check_servers)
    _check(settings, "redis_url", settings.redis_url, _check_redis)
    return settings


def _check(settings: Settings, name: str, address: str | None, check: Callable[[str], None]) -> None:
    try:
        if address:
            check(address)
    except SettingsError as error:
        raise SettingsError(f"{name} (from {settings.origin(name)}): {error}") from error


def _check_redis(url: str) -> None:
    from headrace.features.online.redis.url import check_url

    check_url(url)


def unchecked_settings_from(**flags: Any) -> Settings:
    """Return the settings of :func:`settings_from` for a command that says itself what is wrong with an address."""
    from headrace.app.project.settings_sources import load_settings

    given = {name.replace("__", "."): value for name, value in flags.items()}
    if given.get("data_dir") is not None:
        given["data_dir"] = Path(given["data_dir"]).resolve()  # a flag is relative to the folder where it is typed
    return load_settings(given)


def moment(text: str) -> datetime:
    """Return the time that was typed, in a form in which headrace prints times. Raises BadParameter with the reason.

    >>> moment("2013-02-01 12:00 UTC")
    datetime.datetime(2013, 2, 1, 12, 0, tzinfo=datetime.timezone.utc)
    """
    said = text.strip()
    try:
        return datetime.fromisoformat(said.removesuffix(" UTC") + ("+00:00" if said.endswith(" UTC") else ""))
    except ValueError as error:
        forms = "2013-02-01, 2013-02-01T12:00 or 2013-02-01T12:00:00Z"
        message = f"{text!r} is no date and no time ({error}). Write for example {forms}"
        raise typer.BadParameter(message) from None


def with_zone(at: datetime) -> datetime:
    """Return the time that was typed. A time without a zone is UTC."""
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def check_topic(topic: str | None, known: Iterable[str]) -> None:
    """Raise SettingsError if ``--stream`` names a topic that the project does not have. None was not given."""
    topics = sorted(known)
    if topic is not None and topic not in topics:
        raise SettingsError(f"--stream {topic}: the project has no stream of that topic; it has {topics}")
