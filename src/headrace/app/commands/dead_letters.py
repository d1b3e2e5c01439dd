"""`headrace dead-letters`: lists rejected records, shows why, and sends them again after a fix."""

from __future__ import annotations

import json as codec
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headrace.app.processes.connections import kafka_for_command, schemas
from headrace.app.terminal.options import (
    BootstrapServers,
    DataDir,
    JsonOption,
    RedisUrl,
    StreamOption,
    YesOption,
    check_topic,
    settings_from,
)
from headrace.app.terminal.progress import progress
from headrace.app.terminal.tables import print_details, print_json, print_list, print_rows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.app.project.settings import Settings
    from headrace.bus.stream import Stream
    from headrace.event_log.event_log import EventLog
    from headrace.streams.dead_letters.dead_letter import DeadLetter
    from headrace.streams.dead_letters.replay import ReplayedPiece

_LISTED = ("topic", "id", "when", "reason", "error", "replayed")
_STILL = ("topic", "id", "error")
_REJECTED_STILL = 1
ReasonOption = Annotated[
    str | None, typer.Option(help="Only records rejected for this reason: decode, missing_key or future.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    letters = typer.Typer(
        no_args_is_help=True, help="Records that were rejected: why, and sending them again after a fix."
    )
    letters.command("list")(list_letters)
    letters.command("show")(show)
    letters.command("replay")(replay)
    app.add_typer(letters, name="dead-letters")


def list_letters(
    *,
    stream: StreamOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, help="The largest number of letters to show.")] = 50,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List rejected records, the newest first, from the event log."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.streams.dead_letters.replay import replay_times

    letters = _find(settings, stream, reason).letters
    with kafka_for_command(settings) as servers:
        sent = replay_times(servers)
    rows = [_row(letter, sent.get(letter.id), short=not json) for letter in letters[:limit]]
    print_list(_LISTED, rows, json=json, if_empty="no dead letters")
    if not json and len(letters) > len(rows):
        typer.echo(f"and {len(letters) - len(rows):,} older ones: --limit, --stream or --reason choose", err=True)


def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="The id of a letter. PARTITION-OFFSET is enough if only one id ends with it."
        ),
    ],
    *,
    stream: StreamOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show one rejected record: the reason, key, bytes, and the headers if its topic still has the record.

    JSON is shown as JSON, other text as text, and any other bytes in hexadecimal digits.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.streams.dead_letters.dead_letter import letter_named, read_contents, read_headers
    from headrace.streams.dead_letters.replay import replay_times

    found = _find(settings, stream)
    letter = letter_named(found.letters, name)
    (content,) = read_contents(found.log, [letter])
    with kafka_for_command(settings) as servers:
        shown = _row(letter, replay_times(servers).get(letter.id), short=False)
        own = read_headers(servers, letter)
    shown |= {"key": _readable(content.key), "headers": None if own is None else [[n, _readable(v)] for n, v in own]}
    if json:
        print_json(shown | {"value": _readable(content.value)})
        return
    print_details(shown)
    value = _readable(content.value)
    typer.echo(value if isinstance(value, str) else codec.dumps(value, indent=2, ensure_ascii=False))


def replay(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ID]...", help="Ids of letters. PARTITION-OFFSET is enough if only one id ends with it."
        ),
    ] = None,
    *,
    stream: StreamOption = None,
    reason: ReasonOption = None,
    yes: YesOption = False,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Send rejected records to their topics again, after the definition or the cause was fixed. Each is sent once.

    Without ids, all letters that were not sent again yet are sent. A record that this project would reject again is not
    sent: then the exit code is 1.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.streams.dead_letters.dead_letter import letter_named
    from headrace.streams.dead_letters.replay import DeadLetterReplayer, replay_times

    found = _find(settings, stream, reason)
    chosen = list(dict.fromkeys(letter_named(found.letters, name) for name in names)) if names else found.letters
    with kafka_for_command(settings) as servers:
        sent = replay_times(servers)
        new = [letter for letter in chosen if letter.id not in sent]
        if new and not yes:
            _confirm(new)
        pieces: list[ReplayedPiece] = []
        if new:
            replayer = DeadLetterReplayer(
                servers, found.log, found.streams, schemas=schemas(settings, found.streams.values())
            )
            with progress("replayed", len(new)) as advance:
                for piece in replayer.replay(new):
                    pieces.append(piece)
                    advance(len(piece))
    _print_replay(pieces, earlier=len(chosen) - len(new), json=json)


class _FoundLetters(NamedTuple):
    streams: Mapping[str, Stream]
    log: EventLog
    letters: list[DeadLetter]


def _find(settings: Settings, topic: str | None, reason: str | None = None) -> _FoundLetters:
    from headrace.app.project.project import load_project
    from headrace.event_log.event_log import EventLog
    from headrace.streams.dead_letters.dead_letter import find_letters
    from headrace.streams.worker import own_streams

    streams = {
        stream.topic: stream
        for stream in own_streams(list(load_project(settings).streams.values()), settings.namespace)
    }
    check_topic(topic, streams)
    log = EventLog(settings.event_log, namespace=settings.namespace)
    return _FoundLetters(streams, log, find_letters(log, streams if topic is None else [topic], reason))


def _row(letter: DeadLetter, replayed_us: int | None, *, short: bool) -> dict[str, Any]:
    from headrace.base.times import utc_datetime

    return {
        "topic": letter.topic,
        "id": letter.place if short else letter.id,
        "when": letter.at.isoformat(timespec="milliseconds"),
        "reason": letter.reason,
        "error": letter.error,
        "replayed": None if replayed_us is None else utc_datetime(replayed_us).isoformat(timespec="seconds"),
    }


def _readable(data: bytes | None) -> Any:
    """Return JSON decoded, other text unchanged, and other bytes as hexadecimal digits."""
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return data.hex(" ")
    try:
        return codec.loads(text)
    except ValueError:
        return text if text.isprintable() else data.hex(" ")


def _confirm(letters: Sequence[DeadLetter]) -> None:
    for (topic, reason), count in sorted(Counter((letter.topic, letter.reason) for letter in letters).items()):
        typer.echo(f"{count:>10,}  {reason}  {topic}", err=True)
    typer.confirm(f"send {len(letters):,} records to their topics again?", abort=True, err=True)


def _print_replay(pieces: Sequence[ReplayedPiece], *, earlier: int, json: bool) -> None:
    sent = sum(len(piece.sent) for piece in pieces)
    earlier += sum(len(piece.earlier) for piece in pieces)
    still = [
        {"topic": letter.topic, "id": letter.id if json else letter.place, "error": error}
        for piece in pieces
        for letter, error in piece.rejected
    ]
    if json:
        print_json({"sent": sent, "sent_before": earlier, "rejected_still": still})
    else:
        typer.echo(f"{sent:,} sent again, {earlier:,} were before, {len(still):,} would be rejected again")
        if still:
            print_rows(_STILL, still)
    if still:
        raise typer.Exit(_REJECTED_STILL)
