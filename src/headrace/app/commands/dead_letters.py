"""`headrace dead-letters`: the records that were rejected, why, and sending them again after a fix."""

from __future__ import annotations

import json as codec
from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from headrace.app.processes.broker import kafka
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.progress import progress
from headrace.app.terminal.tables import print_details, print_rows

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
StreamOption = Annotated[str | None, typer.Option("--stream", metavar="TOPIC", help="Only this stream's topic.")]
ReasonOption = Annotated[
    str | None, typer.Option(help="Only what was rejected for this: decode, missing_key or future.")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    letters = typer.Typer(no_args_is_help=True, help="Records that were rejected, and sending them again after a fix.")
    letters.command("list")(list_letters)
    letters.command("show")(show)
    letters.command("replay")(replay)
    app.add_typer(letters, name="dead-letters")


def list_letters(
    *,
    stream: StreamOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Most letters to show.")] = 50,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List rejected records, the newest first, from the event log."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.streams.dead_letters.replay import replayed

    letters = _find(settings, stream, reason).letters
    with kafka(settings) as servers:
        sent = replayed(servers)
    rows = [_row(letter, sent.get(letter.id), short=not json) for letter in letters[:limit]]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    elif rows:
        print_rows(_LISTED, rows)
        _say_rest(len(letters) - len(rows))
    else:
        typer.echo("no dead letters")


def show(
    name: Annotated[str, typer.Argument(metavar="ID", help="A letter's id; PARTITION-OFFSET where only one ends so.")],
    *,
    stream: StreamOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show one rejected record whole: why, its key, its bytes, and its headers while its topic still has them.

    Bytes that are JSON are shown as JSON, other text as text, anything else in hexadecimal digits.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.streams.dead_letters.dead_letter import contents, headers, named
    from headrace.streams.dead_letters.replay import replayed

    found = _find(settings, stream)
    letter = named(found.letters, name)
    (content,) = contents(found.log, [letter])
    with kafka(settings) as servers:
        told = _row(letter, replayed(servers).get(letter.id), short=False)
        own = headers(servers, letter)
    told |= {"key": _readable(content.key), "headers": None if own is None else [[n, _readable(v)] for n, v in own]}
    if json:
        typer.echo(codec.dumps(told | {"value": _readable(content.value)}, indent=2))
        return
    print_details(told)
    value = _readable(content.value)
    typer.echo(value if isinstance(value, str) else codec.dumps(value, indent=2, ensure_ascii=False))


def replay(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Letters; PARTITION-OFFSET where only one ends so.")
    ] = None,
    *,
    stream: StreamOption = None,
    reason: ReasonOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Send rejected records to their topics again, after the definition or the producer was fixed: each once.

    Without ids: all that were not sent again yet. A record that this project would reject again is not sent. Exit
    code 1 if there is such a record.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.streams.dead_letters.dead_letter import named
    from headrace.streams.dead_letters.replay import DeadLetterReplayer, replayed

    found = _find(settings, stream, reason)
    chosen = list(dict.fromkeys(named(found.letters, name) for name in names)) if names else found.letters
    with kafka(settings) as servers:
        sent = replayed(servers)
        new = [letter for letter in chosen if letter.id not in sent]
        if new and not yes:
            _ask(new)
        pieces: list[ReplayedPiece] = []
        if new:
            replayer = DeadLetterReplayer(servers, found.log, found.streams)
            with progress("replayed", len(new)) as advance:
                for piece in replayer.replay(new):
                    pieces.append(piece)
                    advance(len(piece))
    _tell(pieces, earlier=len(chosen) - len(new), json=json)


class _FoundLetters(NamedTuple):
    streams: Mapping[str, Stream]
    log: EventLog
    letters: list[DeadLetter]


def _find(settings: Settings, topic: str | None, reason: str | None = None) -> _FoundLetters:
    from headrace.app.project.project import load_project
    from headrace.errors import SettingsError
    from headrace.event_log.event_log import EventLog
    from headrace.streams.dead_letters.dead_letter import find
    from headrace.streams.worker import own_streams

    streams = {stream.topic: stream for stream in own_streams(list(load_project(settings).streams.values()))}
    if topic is not None and topic not in streams:
        raise SettingsError(f"--stream {topic}: the project has no stream of that topic; it has {sorted(streams)}")
    log = EventLog(settings.event_log)
    return _FoundLetters(streams, log, find(log, streams if topic is None else [topic], reason))


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
    """JSON as what it says, text as it is, other bytes in hexadecimal digits."""
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


def _say_rest(rest: int) -> None:
    if rest:
        typer.echo(f"and {rest:,} older ones: --limit, --stream or --reason choose", err=True)


def _ask(letters: Sequence[DeadLetter]) -> None:
    for (topic, reason), count in sorted(Counter((letter.topic, letter.reason) for letter in letters).items()):
        typer.echo(f"{count:>10,}  {reason}  {topic}", err=True)
    typer.confirm(f"send {len(letters):,} records to their topics again?", abort=True, err=True)


def _tell(pieces: Sequence[ReplayedPiece], *, earlier: int, json: bool) -> None:
    sent = sum(len(piece.sent) for piece in pieces)
    earlier += sum(len(piece.earlier) for piece in pieces)
    still = [
        {"topic": letter.topic, "id": letter.id if json else letter.place, "error": error}
        for piece in pieces
        for letter, error in piece.rejected
    ]
    if json:
        typer.echo(codec.dumps({"sent": sent, "sent_before": earlier, "rejected_still": still}, indent=2))
    else:
        typer.echo(f"{sent:,} sent again, {earlier:,} were before, {len(still):,} would be rejected again")
        if still:
            print_rows(_STILL, still)
    if still:
        raise typer.Exit(_REJECTED_STILL)
