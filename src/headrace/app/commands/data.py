"""`headrace data`: training sets, a first look at them, and spans of time that nothing is to learn from."""

from __future__ import annotations

import json as codec
import uuid
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.processes.broker import kafka
from headrace.app.terminal.options import (
    MOMENT_FORMS,
    BootstrapServers,
    DataDir,
    JsonOption,
    RedisUrl,
    settings_from,
    zoned,
)
from headrace.app.terminal.tables import print_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.project.settings import Settings
    from headrace.models.training_manifest import TrainingManifest
    from headrace.trainers.data.exclusions import Excluded, KafkaExclusions

_DIFFERS = 1
_LISTED = ("id", "model", "from", "to", "reason")
_ZONE = "A date or a time; without a zone it is UTC."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    data = typer.Typer(no_args_is_help=True, help="Training sets, a first look at them, and spans to leave out.")
    data.command("training-set")(training_set)
    data.command("rebuild")(rebuild)
    data.command("profile")(profile)
    data.command("exclude")(exclude)
    data.command("include")(include)
    data.command("exclusions")(exclusions)
    app.add_typer(data, name="data")


def training_set(
    what: Annotated[str, typer.Argument(metavar="NAME", help="A model, or with --spine a feature service or view.")],
    *,
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    spine: Annotated[
        Path | None, typer.Option(help="A Parquet file of rows to give features to: join keys and a time column.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="The spine's time column (default: the only one).")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=MOMENT_FORMS, help=f"Labels as known then (default: now). {_ZONE}"),
    ] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Write a training set with its manifest: a model's matured requests, or rows of your own, as of their times."""
    from headrace.app.training import training_set as make

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    at = None if as_of is None else zoned(as_of)
    told = make(what, spine, time=time, as_of=at, settings=settings).to_parquet(out)
    _tell(told, out, json=json)


def rebuild(
    made: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet file that `data training-set` wrote.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Write it as well.")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Make a training set again from its manifest, and compare. Exit code 1 if its content is another one."""
    from headrace.app.training import rebuild as make
    from headrace.trainers.data.training_set import manifest_of

    again = make(made, settings=settings_from(data_dir=data_dir))
    told = again.manifest if out is None else again.to_parquet(out)
    before = manifest_of(made)
    is_same = (told.rows, told.content_hash) == (before.rows, before.content_hash)
    if json:
        typer.echo(codec.dumps({"identical": is_same, "then": before.content_hash, "now": told.content_hash}, indent=2))
    else:
        typer.echo(f"{told.rows:,} rows, {'the same as then' if is_same else 'OTHER CONTENT than then'}")
    if not is_same:
        raise typer.Exit(_DIFFERS)


def profile(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A Parquet file, a model, or a stream's topic.")],
    *,
    label: Annotated[str | None, typer.Option(help="The column of the outcome (a training set tells its own).")] = None,
    time: Annotated[str | None, typer.Option(help="The column of each row's time (likewise).")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Take a first look: types, nulls, ranges, distributions, the label over time, and features that know too much."""
    from headrace.app.profiling import look, tell

    found = look(what, settings_from(data_dir=data_dir), label=label, time=time)
    if json:
        import msgspec

        typer.echo(codec.dumps(msgspec.to_builtins(found), indent=2))
    else:
        tell(found)


def _tell(told: TrainingManifest, out: Path, *, json: bool) -> None:
    import msgspec

    if json:
        typer.echo(codec.dumps(msgspec.to_builtins(told), indent=2))
    else:
        typer.echo(f"{out}: {told.rows:,} rows, {len(told.feature_columns)} features, {told.content_hash}")


def exclude(
    begin: Annotated[
        datetime, typer.Argument(metavar="FROM", formats=MOMENT_FORMS, help=f"The span's first instant. {_ZONE}")
    ],
    end: Annotated[datetime, typer.Argument(metavar="TO", formats=MOMENT_FORMS, help=f"Its end, not in it. {_ZONE}")],
    *,
    reason: Annotated[str, typer.Option(help="Why; manifests tell it.")],
    model: Annotated[str | None, typer.Option(help="Only for this model.")] = None,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Mark a span as bad: requests made in it enter neither training nor gate, nor what triggers compare with.

    It holds from the next tick and the next run on; what was trained before stays as it is.
    """
    from headrace.base.times import wall_clock
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.data import exclusions as log

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    span = TimeSpan(from_us=_micros(begin), to_us=_micros(end), reason=reason)
    change = log.exclude(uuid.uuid4().hex[:12], model, span, at_us=wall_clock())
    with _log(settings) as kept:
        kept.append(change)
    typer.echo(f"excluded as {change.id}; undo it with `headrace data include {change.id} --reason …`")


def include(
    exclusion: Annotated[str, typer.Argument(help="The exclusion's id, as `headrace data exclusions` shows it.")],
    *,
    reason: Annotated[str, typer.Option(help="Why it was no bad data after all.")],
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Take an exclusion back."""
    from headrace.base.times import wall_clock
    from headrace.errors import TerminalError
    from headrace.trainers.data.exclusions import Included

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with _log(settings) as kept:
        known = kept.in_force()
        if exclusion not in known:
            raise TerminalError(f"there is no exclusion {exclusion!r}; there are {sorted(known) or 'none'}")
        kept.append(Included(id=exclusion, reason=reason, at_us=wall_clock()))
    typer.echo(f"{exclusion} is taken back")


def exclusions(
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List what is excluded now."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with _log(settings) as kept:
        rows = [_row(each) for each in kept.in_force().values()]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    elif rows:
        print_rows(_LISTED, rows)
    else:
        typer.echo("nothing is excluded")


@contextmanager
def _log(settings: Settings) -> Iterator[KafkaExclusions]:
    from headrace.trainers.data.exclusions import KafkaExclusions

    with kafka(settings) as servers, closing(KafkaExclusions(servers)) as log:
        yield log


def _row(each: Excluded) -> dict[str, Any]:
    from headrace.base.times import utc_datetime

    begin, end = (utc_datetime(us).isoformat().replace("+00:00", "Z") for us in (each.from_us, each.to_us))
    return {"id": each.id, "model": each.model, "from": begin, "to": end, "reason": each.reason}


def _micros(at: datetime) -> int:
    from headrace.base.times import epoch_us

    return epoch_us(zoned(at))
