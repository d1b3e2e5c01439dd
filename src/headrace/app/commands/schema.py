"""`headrace schema`: event classes from records or from a schema registry, and what the registry says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.doctor.schemas import lacking, registry_of, with_subjects
from headrace.app.processes.connections import kafka_for_command
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, settings_from
from headrace.app.terminal.tables import print_list
from headrace.errors import DefinitionError, TerminalError

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings
    from headrace.bus.formats.registry_record import RegistryFormat
    from headrace.bus.schemas.schema_registry import SchemaRegistry
    from headrace.bus.stream import Stream

_CHECKED = ("topic", "subject", "newest", "read", "write")
_NOT_READ = 1
_OK = "ok"
TopicArgument = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Event classes from records, or from a schema registry, and back.")
    for command in (infer, pull, push, check):
        group.command()(command)
    app.add_typer(group, name="schema")


def infer(
    topic: TopicArgument,
    *,
    records: Annotated[int, typer.Option(min=1, help="About how many of the newest records to look at.")] = 1_000,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
) -> None:
    """Propose the event class and the stream of a topic, as source text, from its newest records.

    It finds out types, units of numbers that are times, what may be null or missing, texts that are one of a few, the
    record key, and the envelopes of Debezium and CloudEvents. Read the proposal before you use it: it knows only what
    was in these records.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers)
    from headrace.bus.schemas.topic_proposal import proposal
    from headrace.bus.topic_sample import newest_records

    with kafka_for_command(settings) as servers:
        found = newest_records(servers, topic, records)
    typer.echo(proposal(topic, found), nl=False)


def pull(
    subject: Annotated[str, typer.Argument(metavar="SUBJECT", help="The subject, such as shop.payments-value.")],
    *,
    data_dir: DataDir = None,
) -> None:
    """Print an event class for the newest schema of a subject, as source text. The schema is Avro or JSON Schema."""
    settings = settings_from(data_dir=data_dir)
    from headrace.bus.schemas.proposed_event import source
    from headrace.bus.schemas.pulled_event import pulled_event

    registry = registry_of(settings)
    found = registry.latest(subject)
    registry.close()
    if found is None:
        raise TerminalError(
            f"the schema registry {registry.url} has no subject {subject!r}; usually it is the topic and -value"
        )
    event = pulled_event(found)
    times = [each.wire_name for each in event.fields if each.is_time]
    written = {"AVRO": "Avro()", "JSON": "JsonSchema()"}[found.kind]
    stream = {"event_time": f'"{event.names()[times[0]]}"', "format": written} if times else {}
    typer.echo(source(event, stream, subject.removesuffix("-value")), nl=False)


def push(topic: TopicArgument, *, data_dir: DataDir = None) -> None:
    """Register the schema of a stream's event class, unless the registry has it. Print its id.

    The format of the stream is Avro, JsonSchema or Protobuf. A Debezium connector registers its schemas itself.
    """
    settings = settings_from(data_dir=data_dir)
    found = next(((stream, written) for stream, written in _streams(settings) if stream.topic == topic), None)
    if found is None:
        raise TerminalError(f"no stream of the project reads {topic!r} in a format with a schema registry")
    registry = registry_of(settings)
    stream, written = found
    own = written.own_schema(stream.topic, stream.event)
    number = registry.id_of(*own)
    registry.close()
    typer.echo(f"{own.subject}: id {number}")


def check(*, json: JsonOption = False, data_dir: DataDir = None) -> None:
    """Compare each stream whose records name a schema with the newest schema of its subject.

    `read`: whether the newest schema has all fields that the event class needs. `write`: whether the registry would
    take the schema of the event class, as a producer registers it. The exit code is 1 if a schema lacks such a field.
    Streams of Debezium are left out: the connector registers their schemas.
    """
    settings = settings_from(data_dir=data_dir)
    streams = _streams(settings)
    registry = registry_of(settings) if streams else None
    rows = [] if registry is None else [_checked(registry, *each) for each in streams]
    if registry is not None:
        registry.close()
    print_list(_CHECKED, rows, json=json, if_empty="no stream has a format with a schema registry")
    if any(row["read"] not in {_OK, "no schema yet"} for row in rows):
        raise typer.Exit(_NOT_READ)


def _checked(registry: SchemaRegistry, stream: Stream, written: RegistryFormat) -> dict[str, Any]:
    subject = written.subject_of(stream.topic)
    newest = registry.latest(subject)
    row = {"topic": stream.topic, "subject": subject, "newest": None if newest is None else newest.id}
    if newest is None:
        return {**row, "read": "no schema yet", "write": _OK}
    missing = lacking(stream, written, newest)
    try:
        own = written.own_schema(stream.topic, stream.event)
        write = _OK if registry.is_compatible(*own) else "the registry would refuse it"
    except DefinitionError as error:
        write = str(error)
    return {**row, "read": f"lacks {', '.join(missing)}" if missing else _OK, "write": write}


def _streams(settings: Settings) -> list[tuple[Stream, RegistryFormat]]:
    from headrace.app.project.project import load_project

    return with_subjects(load_project(settings).streams.values())
