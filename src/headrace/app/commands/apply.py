"""`headrace apply`: deploys the project's definitions and waits until they are live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.commands.plan import show
from headrace.app.terminal.options import BootstrapServers, DataDir, RedisUrl, settings_from
from headrace.app.terminal.progress import progress_of

if TYPE_CHECKING:
    from headrace.app.deploying import ProjectDeployment

_POLL_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(apply)


def apply(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until everything is live.")] = True,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Deploy the project's views and services: running workers fold new views from the event log, then serve them.

    Shows the plan and asks. Services go over to new views once these have caught up; until then, and if this command
    is stopped, everything is served as before, and the workers go on. Started again, it waits for what is not live yet.
    Where the project has a feature_store.yaml, Feast's registry follows what is live.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app.deploying import ProjectDeployment

    deploying = ProjectDeployment(settings)
    plan = deploying.plan()
    show(plan)
    if plan.is_live:
        _catalogue(deploying)
        return
    if not plan.is_deployed and not yes:
        typer.confirm("deploy this?", abort=True, err=True)
    if wait:
        deploying.insist_on_workers()
    if not plan.is_deployed:
        deploying.publish(plan)
    if wait:
        _wait(deploying)
        _catalogue(deploying)
    typer.echo("live" if wait else "deployed")


def _catalogue(deploying: ProjectDeployment) -> None:
    for line in deploying.catalogue():
        typer.echo(f"feast: {line}")


def _wait(deploying: ProjectDeployment) -> None:
    with progress_of(deploying.rows()) as reach:
        while True:
            now = deploying.progress()
            for name, rows in now.folded.items():
                reach(name, rows)
            if not now.waiting:
                return
            time.sleep(_POLL_S)
