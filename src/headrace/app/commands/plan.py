"""`headrace plan`: shows what deploying the project's definitions would change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import print_json, print_rows

if TYPE_CHECKING:
    from headrace.streams.deployments.plan import DeploymentPlan, PlanLine

EXIT_CHANGES = 3
"""Not 2, which is the exit code of a wrong command line."""
_COLUMNS = ("kind", "name", "action", "version", "what", "rows", "size", "time")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show what `headrace apply` would change: views, services, the cost, and which old versions are retired.

    Exit code 0 if there is nothing to deploy, 3 if there are changes.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app.project_deployment import ProjectDeployment

    found = ProjectDeployment(settings).plan()
    if json:
        print_json(found.to_json())
    else:
        print_plan(found)
    if not found.is_deployed:
        raise typer.Exit(EXIT_CHANGES)


def print_plan(found: DeploymentPlan) -> None:
    """Print a plan as a table, and the number of changes."""
    if found.lines:
        print_rows(_COLUMNS, [_row(line) for line in found.lines])
    changing = [line for line in found.lines if line.action in {"added", "changed", "removed"}]
    if not found.is_deployed:
        typer.echo(f"{len(changing)} to change")
    else:
        typer.echo("nothing to deploy" + ("" if found.is_live else "; not everything is live yet"))


def _row(line: PlanLine) -> dict[str, Any]:
    versions = [version for version in (line.before, line.after) if version is not None]
    cost = line.estimate
    return {
        "kind": line.kind,
        "name": line.name,
        "action": line.action if line.live is not False else f"{line.action}, not live yet",
        "version": " → ".join(versions) or None,
        "what": "; ".join([*line.what, *(f"needed by {reason}" for reason in line.why)]) or None,
        "rows": None if cost is None else f"{cost.rows:,}",
        "size": None if cost is None else f"{'≥ ' if cost.is_sample else ''}{_bytes(cost.bytes)}",
        "time": None if cost is None else f"{cost.seconds:g} s",
    }


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1_000:  # noqa: PLR2004 - decimal units
            return f"{count:.3g} {unit}"
        count /= 1_000
    return f"{count:.3g} GB"
