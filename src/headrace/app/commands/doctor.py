"""`headrace doctor`: checks a deployment for settings that lose data or give wrong values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, unchecked_settings_from
from headrace.app.terminal.tables import print_json, print_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.app.doctor import Finding
    from headrace.app.project.settings import Settings

_WRONG = 1


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(
    *,
    strict: Annotated[bool, typer.Option("--strict", help="Treat warnings as errors.")] = False,
    recorded: Annotated[
        bool, typer.Option("--record", help="Also tell what was found on Kafka, as a check report.")
    ] = False,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Check the project, Redis, Kafka, the event log and the clocks for settings that lose data or give wrong values.

    It changes nothing; with --record it writes one message to Kafka. The errors come first, then the warnings. The
    exit code is 1 if there is an error.
    """
    from headrace.app.doctor import Severity
    from headrace.app.doctor.diagnosis import diagnose

    settings = unchecked_settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    found = list(diagnose(settings))
    worst_first = list(reversed(Severity))
    rows = [asdict(each) for each in sorted(found, key=lambda each: worst_first.index(each.severity))]
    if json:
        print_json(rows)
    else:
        print_rows(tuple(rows[0]), rows)
    if recorded:
        _record(settings, found)
    bad = {Severity.ERROR, Severity.WARNING} if strict else {Severity.ERROR}
    if any(each.severity in bad for each in found):
        raise typer.Exit(_WRONG)


def _record(settings: Settings, found: Sequence[Finding]) -> None:
    from headrace.app.doctor.recorded import doctor_report, record
    from headrace.app.processes.connections import addresses
    from headrace.app.processes.registry_alias import whoami
    from headrace.base.times import wall_clock

    servers, _ = addresses(settings)
    record(servers, settings.topics, doctor_report(found, by=whoami(), at_us=wall_clock()))
