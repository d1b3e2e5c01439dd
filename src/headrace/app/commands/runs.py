"""`headrace runs`: the training runs of the models, and the end of one."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from headrace.app.processes.connections import kafka_for_command
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, ModelFilter, RedisUrl, settings_from
from headrace.app.terminal.tables import print_details, print_json, print_list

if TYPE_CHECKING:
    from headrace.app.project.settings import Settings
    from headrace.trainers.runs.messages import RetrainRequest, RunEnded

RunArgument = Annotated[str, typer.Argument(metavar="ID", help="The run, as `headrace runs list` shows it.")]
_LISTED = ("id", "model", "asked_at", "why", "outcome", "version", "result")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    runs = typer.Typer(no_args_is_help=True, help="The training runs: list, show, log, cancel.")
    runs.command("list")(list_runs)
    runs.command("show")(show)
    runs.command("log")(log)
    runs.command("cancel")(cancel)
    app.add_typer(runs, name="runs")


class Outcome(StrEnum):
    """How a run ended, or that it has not."""

    PUBLISHED = "published"
    REFUSED = "refused"
    POSTPONED = "postponed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    OPEN = "not ended"


def list_runs(
    model: ModelFilter = None,
    *,
    outcome: Annotated[Outcome | None, typer.Option(help="Only runs that ended like this.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many of the newest (default: all).")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List the runs that were asked for, the newest last: why, and how they ended."""
    from headrace.app import operators
    from headrace.app.project.project import load_project

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        requests, ends = _read(servers, settings)
        cancelled = operators.cancelled_runs(servers, settings.topics)
    ids = sorted({**requests, **ends}, key=lambda id_: (requests.get(id_) or ends[id_]).t_us)
    rows = [operators.summarize_run(requests.get(id_), ends.get(id_), cancelled.get(id_)) for id_ in ids]
    rows = [row for row in rows if model in {None, row["model"]}]
    if model is not None and not rows:
        operators.chosen_model(load_project(settings).models, model)
    if outcome is not None:
        rows = [row for row in rows if row["outcome"] == outcome.value]
    empty = "no run was asked for yet" if outcome is None else f"no run has the outcome {outcome.value!r}"
    print_list(_LISTED, rows if limit is None else rows[-limit:], json=json, if_empty=empty)


def show(
    run: RunArgument,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show one run: what asked for it and why, how it ended, the gate's report, and how long each step took."""
    from headrace.app import operators

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        request, end = _find(run, *_read(servers, settings))
        cancelled = operators.cancelled_runs(servers, settings.topics).get(run)
        times = operators.run_times(servers, settings.topics, run)
    found = operators.describe_run(request, end, cancelled, times)
    if json:
        print_json(found)
    else:
        print_details(found)


def log(
    run: RunArgument,
    *,
    data_dir: DataDir = None,
) -> None:
    """Print what the train function of a run printed, warned and logged, and the traceback of its error.

    The log is in the data folder of the trainer that did the run.
    """
    from headrace.app.processes.trainer import run_log_folder
    from headrace.trainers.runs.run_logs import run_log

    typer.echo(run_log(run_log_folder(settings_from(data_dir=data_dir)), run), nl=False)


def cancel(
    run: RunArgument,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept with the run.")],
    by: Annotated[str | None, typer.Option(help="Who asks (default: user@host).")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """End a run that is under way or waits: it fails, and its reason says who cancelled it and why.

    It publishes nothing, but a fit under way goes on to its end. To end that fit at once, stop the trainer too.
    Afterwards cooldown and hold apply, as after a failed run: otherwise the rule would ask again at once. Changed code
    does not end them. `headrace train` ignores them, and `headrace triggers reset` ends them.

    A run that has published its version already is not undone: `headrace models rollback` is for that.
    """
    from headrace.app import operators
    from headrace.errors import TerminalError

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        request, end = _find(run, *_read(servers, settings))
        if request is None or end is not None:
            raise TerminalError(f"run {run} has ended: {'' if end is None else end.outcome}")
        asked = operators.new_request(request.model, "cancel", by, reason, request_id=run)
        operators.send(servers, settings.topics, asked)
    if json:
        print_json({"model": asked.model, "run": run, "by": asked.by, "reason": reason})
    else:
        typer.echo(f"the trainer is told to end run {run}: `headrace runs show {run}` says how it ended")


def _read(servers: str, settings: Settings) -> tuple[dict[str, RetrainRequest], dict[str, RunEnded]]:
    from headrace.app import operators

    return operators.requested_runs(servers, settings.topics), operators.ended_runs(servers, settings.topics)


def _find(
    run: str, requests: dict[str, RetrainRequest], ends: dict[str, RunEnded]
) -> tuple[RetrainRequest | None, RunEnded | None]:
    """Return the request and the end of a run. Raises TerminalError if there is none."""
    from headrace.errors import TerminalError

    if run not in requests and run not in ends:
        raise TerminalError(f"no run has the id {run!r}: `headrace runs list` shows all")
    return requests.get(run), ends.get(run)
