"""`headrace models`: the versions of a model, what is live where, and what a person decides about them."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.processes.connections import artifact_places, kafka_for_command
from headrace.app.terminal.options import (
    BootstrapServers,
    ByOption,
    DataDir,
    JsonOption,
    ModelArgument,
    ModelFilter,
    RedisUrl,
    VersionArgument,
    moment,
    settings_from,
    with_zone,
)
from headrace.app.terminal.tables import harmless, print_details, print_json, print_list, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.app.project.settings import Settings
    from headrace.models.intervention import Intervention
    from headrace.models.model_state import ModelState

_LISTED = ("model", "version", "status", "published_at", "cause", "gate", "run", "pinned")  # the rest: --json
WhyOption = Annotated[str, typer.Option("--reason", help="Why; it is kept in the event.")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    models = typer.Typer(no_args_is_help=True, help="The versions of a model, and what a person decides about them.")
    models.command("list")(list_versions)
    models.command("show")(show)
    models.command("diff")(diff)
    models.command("live-at")(live_at)
    models.command("promote")(promote)
    models.command("pin")(pin)
    models.command("unpin")(unpin)
    models.command("rollback")(rollback)
    models.command("retire")(retire)
    app.add_typer(models, name="models")


def list_versions(
    model: ModelFilter = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """List every published version: its status, why it was trained, and the verdict of the gate.

    Services that have run on the data folder before, and do not run now, are started for this command.
    """
    from headrace.app import model_versions

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
    names = sorted(states) if model is None else [model_versions.choose_model(states, model)]
    rows = [
        model_versions.summarize_version(states[name], version)
        for name in names
        for version in model_versions.published_versions(states[name])
    ]
    print_list(_LISTED, rows, json=json, if_empty="no version was published yet")


def show(
    model: ModelArgument,
    version: VersionArgument,
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show how one version was made: cause, data, code, seeds, libraries, gate report, registry run and artifact.

    The manifest is read from the place that the version's event names, and its hash is checked.
    """
    from headrace.app import model_versions

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
    state = states[model_versions.choose_model(states, model)]
    _, published = model_versions.find_publication(state, version)
    details = model_versions.describe_version(
        state, version, model_versions.fetch_manifest(published, artifact_places(settings))
    )
    if json:
        print_json(details)
    else:
        print_details(details)


def diff(
    model: ModelArgument,
    one: Annotated[int, typer.Argument(min=1, help="A version, as `headrace models list` shows it.")],
    other: Annotated[int, typer.Argument(min=1, help="The version to compare it with.")],
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show what differs between two versions: cause, data, code, parameters, libraries, specs, gate and metrics.

    The manifests are read from the places that the versions' events name, and their hashes are checked.
    """
    from headrace.app import model_versions

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
    name = model_versions.choose_model(states, model)
    state, places = states[name], artifact_places(settings)

    def described(version: int) -> dict[str, Any]:
        _, published = model_versions.find_publication(state, version)
        return model_versions.describe_version(state, version, model_versions.fetch_manifest(published, places))

    found = model_versions.differences(described(one), described(other))
    if json:
        print_json({"model": name, "from": one, "to": other, "differences": found})
    elif found:
        columns = ("what", f"version {one}", f"version {other}")
        shown = [[None if value == "" else value for value in each.values()] for each in found]
        print_rows(columns, [dict(zip(columns, each, strict=True)) for each in shown])
    else:
        typer.echo(f"versions {one} and {other} of {name} do not differ: same data, same code, same gate result")


def live_at(
    model: ModelArgument,
    at: Annotated[
        datetime | None,
        typer.Argument(metavar="[TIME]", parser=moment, help="Default: now. A time without a zone is UTC."),
    ] = None,
    *,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show which version is live, or was at a time, and which application had loaded what.

    The model events say which version is live. The acknowledgements say what each application loaded. Processes
    that share an application's name are one row: their last acknowledgement.
    """
    from headrace.app import model_versions
    from headrace.base.times import epoch_us, wall_clock

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    topics, t_us = settings.topics, wall_clock() if at is None else epoch_us(with_zone(at))
    with kafka_for_command(settings) as servers:
        events = model_versions.read_model_events(servers, topics.models, settings.signing)
        name = model_versions.choose_model(dict.fromkeys(event.model for event in events), model)
        answers = model_versions.read_acknowledgements(servers, topics.model_acks, name)
    found = model_versions.describe_live_at([event for event in events if event.model == name], answers, t_us)
    if json:
        print_json({"model": name, **found})
    else:
        rows = [{"where": "model events", **found["live"], "note": found["live"]["told"]}]
        if found["waiting"] is not None:
            rows.append(_waiting_row(name, found["waiting"], found["waiting_since"]))
        rows += ({**each, "note": each["problem"]} for each in found["applications"])
        print_rows(("where", "version", "since", "note"), rows)


def _waiting_row(model: str, version: int, since: str) -> dict[str, Any]:
    note = (
        f"it passed its gate, and is not live: `headrace models promote {model} {version} --reason …` makes it "
        "live, `retire` rejects it"
    )
    return {"where": "waits for approval", "version": version, "since": since, "note": note}


def promote(
    model: ModelArgument,
    version: VersionArgument,
    *,
    reason: WhyOption,
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Make a version live, without a pin: one that waits for its approval, or any that was published.

    Every application that follows the model swaps to it. A pin ends. A run that was judged against another version
    publishes nothing.
    """
    from headrace.models.model_events import Promoted

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    _intervene(settings, model, by, lambda _, __, who: Promoted(version=version, reason=reason, by=who), json=json)


def pin(
    model: ModelArgument,
    *,
    reason: WhyOption,
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Hold the live version: nothing is published over it, not even by a run under way.

    `headrace models unpin` or `promote` ends the pin. After enough new labels, or with `headrace train --lift-pin`, a
    run may replace the pinned version: the pin ends if that run publishes. If you pin again, the count of labels
    starts at 0.
    """
    from headrace.models import intervention

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    _intervene(settings, model, by, lambda state, name, who: intervention.pin(state, name, reason, who), json=json)


def unpin(
    model: ModelArgument,
    *,
    reason: WhyOption = "",
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Remove a pin, so that triggers may ask for a run again. The live version stays."""
    from headrace.models import intervention

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    _intervene(settings, model, by, lambda state, name, who: intervention.unpin(state, name, reason, who), json=json)


def rollback(
    model: ModelArgument,
    version: Annotated[int, typer.Argument(min=1, help="The version to go back to.")],
    *,
    reason: WhyOption,
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Make an earlier version live at once, and pin it.

    Every application that follows the model swaps to it. The pin ends in the same ways as one of `headrace models pin`.
    """
    from headrace.models.model_events import RolledBack

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    _intervene(settings, model, by, lambda _, __, who: RolledBack(version=version, reason=reason, by=who), json=json)


def retire(
    model: ModelArgument,
    version: VersionArgument,
    *,
    reason: WhyOption,
    by: ByOption = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Take a version out of use for ever; one that waits for its approval is rejected.

    It is never live again, and its feature views may go. The live version cannot be retired.
    """
    from headrace.models.model_events import Retired

    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    _intervene(settings, model, by, lambda _, __, who: Retired(version=version, reason=reason, by=who), json=json)


def _intervene(
    settings: Settings,
    model: str,
    by: str | None,
    decide: Callable[[ModelState, str, str], Intervention],
    *,
    json: bool,
) -> None:
    """Append the event of a person's decision, and print it. Raises TerminalError if it would change nothing."""
    from headrace.app import model_versions
    from headrace.app.processes.registry_alias import mend_if_reachable, whoami
    from headrace.base.times import wall_clock
    from headrace.models.intervention import intervene
    from headrace.models.kafka_model_event_log import KafkaModelEventLog

    with kafka_for_command(settings) as servers:

        def states() -> dict[str, ModelState]:
            return model_versions.read_model_states(servers, settings.topics.models, settings.signing)

        before = states()
        name = model_versions.choose_model(before, model)
        data = decide(before[name], name, by or whoami())
        event = intervene(before[name], data, id_=uuid.uuid4().hex, model=name, at_us=wall_clock())
        topic = settings.topics.models
        with closing(
            KafkaModelEventLog(servers, topic, signing=settings.signing, timeout=model_versions.TIMEOUT)
        ) as log:
            model_versions.check_signing(log, name, settings)
            log.append(event)
        after = states()[name]
        model_versions.check_in_force(after, event)
        if json:
            print_json(model_versions.describe_intervention(after, event))
        else:
            typer.echo(harmless(model_versions.tell_intervention(after, event, before[name].version)))
        mend_if_reachable(settings, lambda: states()[name], name)
