"""`headrace data`: spans of time that were bad, and that nothing is to learn from."""

from __future__ import annotations

import json as codec
import uuid
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.broker import kafka
from headrace.app.options import BootstrapServers, DataDir, Json, RedisUrl, settings_from
from headrace.app.tables import print_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.settings import Settings
    from headrace.trainers.exclusions import Excluded
    from headrace.trainers.kafka_exclusions import KafkaExclusions

_LISTED = ("id", "model", "from", "to", "reason")
_FORMS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M%z", "%Y-%m-%dT%H:%M:%S%z"]
_ZONE = "A date or a time; without a zone it is UTC."


def register(app: typer.Typer) -> None:
    """Add the commands."""
    data = typer.Typer(no_args_is_help=True, help="Spans of time that were bad, and that nothing is to learn from.")
    data.command("exclude")(exclude)
    data.command("include")(include)
    data.command("exclusions")(exclusions)
    app.add_typer(data, name="data")


def exclude(
    begin: Annotated[
        datetime, typer.Argument(metavar="FROM", formats=_FORMS, help=f"The span's first instant. {_ZONE}")
    ],
    end: Annotated[datetime, typer.Argument(metavar="TO", formats=_FORMS, help=f"Its end, not in it. {_ZONE}")],
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
    from headrace.bus.clock import wall_clock  # noqa: PLC0415 - --help needs none of it
    from headrace.models.manifest import Span  # noqa: PLC0415
    from headrace.trainers import exclusions as log  # noqa: PLC0415

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    span = Span(from_us=_micros(begin), to_us=_micros(end), reason=reason)
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
    from headrace.bus.clock import wall_clock  # noqa: PLC0415
    from headrace.errors import TerminalError  # noqa: PLC0415
    from headrace.trainers.exclusions import Included  # noqa: PLC0415

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with _log(settings) as kept:
        known = kept.in_force()
        if exclusion not in known:
            raise TerminalError(f"there is no exclusion {exclusion!r}; there are {sorted(known) or 'none'}")
        kept.append(Included(id=exclusion, reason=reason, at_us=wall_clock()))
    typer.echo(f"{exclusion} is taken back")


def exclusions(
    *,
    json: Json = False,
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
    from headrace.trainers.kafka_exclusions import KafkaExclusions  # noqa: PLC0415

    with kafka(settings) as servers, closing(KafkaExclusions(servers)) as log:
        yield log


def _row(each: Excluded) -> dict[str, Any]:
    from headrace.bus.duration import moment  # noqa: PLC0415

    begin, end = (moment(us).isoformat().replace("+00:00", "Z") for us in (each.from_us, each.to_us))
    return {"id": each.id, "model": each.model, "from": begin, "to": end, "reason": each.reason}


def _micros(at: datetime) -> int:
    from headrace.bus.duration import instant  # noqa: PLC0415

    return instant(at if at.tzinfo else at.replace(tzinfo=UTC))
