"""`headrace data`: training sets, a first look at data, and spans of time to leave out of training."""

from __future__ import annotations

import uuid
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.processes.connections import kafka_for_command
from headrace.app.terminal.options import (
    BootstrapServers,
    ByOption,
    DataDir,
    JsonOption,
    RedisUrl,
    moment,
    settings_from,
    with_zone,
)
from headrace.app.terminal.tables import print_json, print_list

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.project.settings import Settings
    from headrace.trainers.data.exclusions import Excluded, KafkaExclusions

_DIFFERS = 1
_LISTED = ("id", "model", "from", "to", "excluded_at", "by", "reason")
_ZONE = "A date or a time. A time without a zone is UTC."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    data = typer.Typer(
        no_args_is_help=True, help="Training sets, a first look at data, and spans of time to leave out."
    )
    data.command("training-set")(training_set)
    data.command("rebuild")(rebuild)
    data.command("profile")(profile)
    data.command("exclude")(exclude)
    data.command("include")(include)
    data.command("exclusions")(exclusions)
    app.add_typer(data, name="data")


def training_set(
    what: Annotated[
        str, typer.Argument(metavar="NAME", help="A model; with --spine also a feature service or a view.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    spine: Annotated[
        Path | None, typer.Option(help="A Parquet file with the rows that get features: join keys and a time column.")
    ] = None,
    time: Annotated[str | None, typer.Option(help="The spine's time column (default: the only one).")] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(parser=moment, help=f"Use the labels that were known then (default: now). {_ZONE}"),
    ] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Write a training set with its manifest: a model's matured requests, or your own rows.

    Each row has the features of its own time.
    """
    from headrace.app.training_sets import training_set as make

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    at = None if as_of is None else with_zone(as_of)
    manifest = make(what, spine, time=time, as_of=at, settings=settings).to_parquet(out)
    if json:
        print_json(manifest)
    else:
        typer.echo(f"{out}: {manifest.rows:,} rows, {len(manifest.feature_columns)} features, {manifest.content_hash}")


def rebuild(
    made: Annotated[Path, typer.Argument(metavar="FILE", help="A Parquet file that `data training-set` wrote.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Also write the rebuilt training set to this file.")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Make a training set again from its manifest, and compare both. Exit code 1 if the content differs."""
    from headrace.app.training_sets import rebuild as make
    from headrace.trainers.data.training_set import manifest_of

    again = make(made, settings=settings_from(data_dir=data_dir))
    now = again.manifest if out is None else again.to_parquet(out)
    then = manifest_of(made)
    is_same = (now.rows, now.content_hash) == (then.rows, then.content_hash)
    if json:
        print_json({"identical": is_same, "then": then.content_hash, "now": now.content_hash})
    else:
        typer.echo(f"{now.rows:,} rows, {'the same as then' if is_same else 'OTHER CONTENT than then'}")
    if not is_same:
        raise typer.Exit(_DIFFERS)


def profile(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="A Parquet file, a model, or a stream's topic.")],
    *,
    label: Annotated[
        str | None, typer.Option(help="The label column (default: the one that a training set names).")
    ] = None,
    time: Annotated[
        str | None, typer.Option(help="The time column (default: the one that a training set names).")
    ] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Take a first look: types, nulls, ranges, distributions, the label over time, and features that may leak it."""
    from headrace.app.data_profile import print_profile, profile_data

    found = profile_data(what, settings_from(data_dir=data_dir), label=label, time=time)
    if json:
        print_json(found)
    else:
        print_profile(found)


def exclude(
    begin: Annotated[
        datetime, typer.Argument(metavar="FROM", parser=moment, help=f"The start of the span, included. {_ZONE}")
    ],
    end: Annotated[
        datetime, typer.Argument(metavar="TO", parser=moment, help=f"The end of the span, not included. {_ZONE}")
    ],
    *,
    reason: Annotated[str, typer.Option(help="Why; it is written into manifests.")],
    model: Annotated[str | None, typer.Option(help="Only for this model.")] = None,
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Mark a span of time as bad. Requests made in it are left out of training, of the gate and of triggers.

    This applies from the next tick and the next run on. Versions that were trained before do not change.
    """
    from headrace.app.processes.registry_alias import whoami
    from headrace.app.project.project import load_project
    from headrace.base.times import wall_clock
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.data import exclusions as log

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    if model is not None:
        model = load_project(settings).model(model).name  # an unknown name would exclude nothing
    span = TimeSpan(from_us=_micros(begin), to_us=_micros(end), reason=reason)
    change = log.exclude(uuid.uuid4().hex[:12], model, span, at_us=wall_clock(), by=by or whoami())
    with _log(settings) as kept:
        kept.append(change)
    row = _row(change)
    if json:
        print_json(row)
        return
    whose = "of all models" if model is None else f"of {model}"
    typer.echo(
        f"requests {whose} from {row['from']} to {row['to']} are left out from the next tick and the next run on\n"
        f"to undo it: headrace data include {change.id} --reason …"
    )


def include(
    exclusion: Annotated[str, typer.Argument(help="The exclusion's id, as `headrace data exclusions` shows it.")],
    *,
    reason: Annotated[str, typer.Option(help="Why the data is good after all.")],
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Undo an exclusion."""
    from headrace.app.processes.registry_alias import whoami
    from headrace.base.times import wall_clock
    from headrace.errors import TerminalError
    from headrace.trainers.data.exclusions import Included

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with _log(settings) as kept:
        known = kept.in_force()
        if not reason.strip():
            raise TerminalError("--reason is empty: it is kept for ever, so say why the data is good after all")
        if exclusion not in known:
            there = f"in force are {', '.join(sorted(known)) or 'none'}"
            raise TerminalError(f"no exclusion {exclusion!r} is in force: it was taken back, or never was; {there}")
        back = Included(id=exclusion, reason=reason, at_us=wall_clock(), by=by or whoami())
        kept.append(back)
    row = _row(known[exclusion])
    if json:
        print_json({"exclusion": row, "by": back.by, "reason": reason})
    else:
        typer.echo(f"{exclusion} is taken back: requests from {row['from']} to {row['to']} count again")


def exclusions(
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List the spans that are excluded now."""
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with _log(settings) as kept:
        rows = [_row(each) for each in kept.in_force().values()]
    if not json:
        rows = [row | {"model": row["model"] or "all"} for row in rows]
    print_list(_LISTED, rows, json=json, if_empty="nothing is excluded")


@contextmanager
def _log(settings: Settings) -> Iterator[KafkaExclusions]:
    from headrace.trainers.data.exclusions import KafkaExclusions

    with kafka_for_command(settings) as servers, closing(KafkaExclusions(servers, settings.topics.exclusions)) as log:
        yield log


def _row(each: Excluded) -> dict[str, Any]:
    from headrace.base.times import utc_datetime

    begin, end = (utc_datetime(us).isoformat().replace("+00:00", "Z") for us in (each.from_us, each.to_us))
    return {
        "id": each.id,
        "model": each.model,
        "from": begin,
        "to": end,
        "excluded_at": utc_datetime(each.at_us).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "by": each.by or None,
        "reason": each.reason,
    }


def _micros(at: datetime) -> int:
    from headrace.base.times import epoch_us

    return epoch_us(with_zone(at))
