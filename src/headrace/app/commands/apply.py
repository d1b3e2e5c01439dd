"""`headrace apply`: deploys the project's definitions and waits until they are live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.commands.plan import print_plan
from headrace.app.terminal.options import BootstrapServers, DataDir, RedisUrl, YesOption, settings_from
from headrace.app.terminal.progress import progress_of_each

if TYPE_CHECKING:
    from headrace.app.project_deployment import ProjectDeployment

_POLL_S = 0.2


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(apply)


def apply(
    *,
    yes: YesOption = False,
    wait: Annotated[bool, typer.Option(help="Wait until everything is live.")] = True,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Deploy the project's views and services. Running workers fold new views from the event log, then serve them.

    The command shows the plan and asks. A service changes to new views when these have caught up. Until then everything
    is served as before. If the command is stopped, the workers go on; if it is started again, it waits for what is not
    live yet. If the project has a feature_store.yaml, Feast's registry is updated when everything is live.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    from headrace.app.project_deployment import ProjectDeployment

    deployment = ProjectDeployment(settings)
    plan = deployment.plan()
    print_plan(plan)
    if plan.is_live:
        _update_feast(deployment)
        return
    if not plan.is_deployed and not yes:
        typer.confirm("deploy this?", abort=True, err=True)
    if wait:
        deployment.insist_on_workers()
    if not plan.is_deployed:
        deployment.publish(plan)
    if wait:
        _wait_until_live(deployment)
        _update_feast(deployment)
    typer.echo("live" if wait else "deployed")


def _update_feast(deployment: ProjectDeployment) -> None:
    for line in deployment.catalogue():
        typer.echo(f"feast: {line}")


def _wait_until_live(deployment: ProjectDeployment) -> None:
    with progress_of_each(deployment.rows()) as advance_to:
        while True:
            now = deployment.progress()
            for name, rows in now.folded.items():
                advance_to(name, rows)
            if not now.waiting:
                return
            time.sleep(_POLL_S)
