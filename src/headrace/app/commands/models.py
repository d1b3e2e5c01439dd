"""`headrace models`: the versions of a model, and what made each of them."""

from __future__ import annotations

import json as codec
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.options import BootstrapServers, DataDir, Json, RedisUrl, settings_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from headrace.app.settings import Settings
    from headrace.models.event_log import Entry, ModelEventLog
    from headrace.models.state import ModelState

_TIMEOUT_SECONDS = 10.0
_RETRY_SECONDS = 0.2
_LISTED = ("model", "version", "status", "published_at", "cause", "gate", "run")  # the metrics are in JSON and `show`
_UNWRAPPED = 10_000  # columns: what is no terminal gets whole lines

Model = Annotated[str | None, typer.Option(help="The model; needed where several have events.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(no_args_is_help=True, help="The versions of a model, and what made each of them.")
    models.command("list")(list_versions)
    models.command("show")(show)
    app.add_typer(models, name="models")


def list_versions(
    model: Annotated[str | None, typer.Option(help="Only this model's.")] = None,
    json: Json = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List every published version: whether it is live, why it was made, how it was judged.

    If no services run on the data folder, they are started for the time it takes.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    states = _states(settings)
    from headrace.app import provenance  # noqa: PLC0415 - --help needs none of it

    chosen = sorted(states) if model is None else [provenance.choose(states, model)]
    rows = [
        provenance.summarize(states[name], version) for name in chosen for version in provenance.versions(states[name])
    ]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    elif rows:
        _print(_listing(rows))
    else:
        typer.echo("no version was published yet")


def show(
    version: Annotated[int, typer.Argument(min=1, help="The version, as `headrace models list` shows it.")],
    *,
    model: Model = None,
    json: Json = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show what made one version: cause, data, code, seeds, libraries, gate report, registry run and artifact.

    The manifest is read where the version's event says, and checked against the event's hash. If no services run on
    the data folder, they are started for the time it takes.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    states = _states(settings)
    from headrace.app import provenance  # noqa: PLC0415 - --help needs none of it

    state = states[provenance.choose(states, model)]
    _, published = provenance.publication(state, version)
    told = provenance.describe(state, version, provenance.manifest_of(published))
    if json:
        typer.echo(codec.dumps(told, indent=2))
    else:
        _print(_details(told))


def _states(settings: Settings) -> dict[str, ModelState]:
    """The states of all models, from the log of their events."""
    from headrace.models.kafka_event_log import KafkaModelEventLog  # noqa: PLC0415
    from headrace.models.state import fold_all  # noqa: PLC0415

    with _kafka(settings) as servers:
        if not _has_events(servers):
            return {}
        log = KafkaModelEventLog(servers, timeout_s=_TIMEOUT_SECONDS)
        try:
            return fold_all(entry.event for entry in _read(log) if entry.event is not None)
        finally:
            log.close()


def _read(log: ModelEventLog) -> list[Entry]:
    """The whole log. A broker that has just started answers before its partitions have leaders: ask again."""
    from headrace.errors import BusUnavailableError  # noqa: PLC0415

    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while True:
        try:
            return log.read()
        except BusUnavailableError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_SECONDS)


@contextmanager
def _kafka(settings: Settings) -> Iterator[str]:
    """Kafka's address; one that lies stopped in the data folder runs for as long as the context lasts."""
    from headrace.app.local.services import known_addresses, services_for  # noqa: PLC0415
    from headrace.app.run import addresses  # noqa: PLC0415

    known = known_addresses(settings).bootstrap_servers
    if known is not None:
        yield known
    elif (settings.data_dir / "local" / "kafka").is_dir():
        typer.echo(f"no services run on {settings.data_dir}: starting them for this command …", err=True)
        with services_for(settings) as found:
            yield found.bootstrap_servers or addresses(settings)[0]
    else:
        yield addresses(settings)[0]  # there is nothing to start: it says what to do


def _has_events(servers: str) -> bool:
    """Whether the topic of model events exists; a reader does not make it."""
    from confluent_kafka import KafkaException  # noqa: PLC0415

    from headrace.bus.topics import MODELS, admin  # noqa: PLC0415
    from headrace.errors import BusUnavailableError  # noqa: PLC0415

    try:
        return MODELS in admin(servers).list_topics(timeout=_TIMEOUT_SECONDS).topics
    except KafkaException as error:
        raise BusUnavailableError(f"could not list the topics of {servers}: {error}; is the broker up?") from error


def _listing(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table  # noqa: PLC0415 - only for tables
    from rich.text import Text  # noqa: PLC0415

    table = Table(*_LISTED, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text(_word(row[name]), overflow="fold") for name in _LISTED))
    return table


def _details(told: dict[str, Any]) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table.grid(padding=(0, 2))
    for name, value in _lines(told):
        table.add_row(Text(name, "bold"), Text(_word(value), overflow="fold"))
    return table


def _lines(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves, each with its path: ("data.topics.0.offsets.1", 98)."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if not inner and not isinstance(value, (dict, list)):
        yield path, value
    for key, each in inner:
        yield from _lines(each, f"{path}.{key}" if path else str(key))


def _word(value: Any) -> str:
    return "-" if value is None else str(value)


def _print(table: Table) -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console()
    if not console.is_terminal:
        console = Console(width=_UNWRAPPED)
    console.print(table)
