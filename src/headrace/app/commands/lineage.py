"""`headrace lineage`: what a topic, a view, a model or one of its versions is made from, and what is made from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.processes.connections import artifact_places, kafka_for_command
from headrace.app.terminal.options import BootstrapServers, DataDir, JsonOption, RedisUrl, settings_from
from headrace.app.terminal.tables import harmless, print_json, print_rows
from headrace.errors import ProjectError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from headrace.app.flow.flow_graph import FlowEdge, FlowGraph, FlowNode
    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(lineage)


def lineage(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL@VERSION | VIEW | TOPIC | …]",
            help="Its sources and what is made from it (default: everything). If two kinds of things have the name, "
            "write the kind too: view:card.",
        ),
    ] = None,
    *,
    ranks: Annotated[int | None, typer.Option(min=1, help="Only this many columns to each side.")] = None,
    svg: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw it into this file.")] = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    bootstrap_servers: BootstrapServers = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show what is made from what: topics, views, services, models, applications.

    Definitions are read from the project, and no server is asked. A version such as delay@3 is read from its model
    event, its manifest and the acknowledgements of applications.
    """
    settings = settings_from(data_dir=data_dir, bootstrap_servers=bootstrap_servers, redis_url=redis_url)
    version: dict[str, Any] | None = None
    focus: str | None = None
    if name is not None and "@" in name:
        graph, focus, version = _of_version(settings, name)
    else:
        graph, focus = _of_definitions(settings, name)
    if focus is not None:
        graph = graph.focused(focus, ranks)
    if svg is not None:
        from headrace.app.flow.flow_svg import flow_svg

        svg.write_text(flow_svg(graph, f"Lineage of {name or 'the project'}", focus=focus, is_file=True), "utf-8")
    if json:
        print_json({"of": focus, **graph.plain(), "version": version})
    elif svg is not None:
        typer.echo(f"{svg} shows {len(graph.nodes)} nodes and {len(graph.edges)} edges")
    else:
        print_rows(("kind", "name", "from", "to", "facts"), [_row(graph, node) for node in graph.nodes])


def _of_definitions(settings: Settings, name: str | None) -> tuple[FlowGraph, str | None]:
    from headrace.app.flow.definition_graph import definition_graph
    from headrace.app.project.project import load_project

    graph = definition_graph(load_project(settings))
    return graph, None if name is None else graph.find(name).id


def _of_version(settings: Settings, name: str) -> tuple[FlowGraph, str, dict[str, Any]]:
    from headrace.app import model_versions
    from headrace.app.flow.version_graph import VersionSources, version_graph
    from headrace.base.times import wall_clock
    from headrace.streams.deployments.kafka_deployment_log import KafkaDeploymentLog

    model, number = _version(name)
    with kafka_for_command(settings) as servers:
        states = model_versions.read_model_states(servers, settings.topics.models, settings.signing)
        state = states[model_versions.choose_model(states, model)]
        answers = model_versions.read_acknowledgements(servers, settings.topics.model_acks, model)
        deployed = KafkaDeploymentLog(servers, settings.namespace).read()
    _, published = model_versions.find_publication(state, number)
    manifest = model_versions.fetch_manifest(published, artifact_places(settings))
    project = _project(settings)
    made = VersionSources(
        f"{model}@{number}",
        published,
        manifest,
        dict(deployed.specs) | {view.spec.versioned_name: view.spec for view in project.views.values()},
        project.models[model].requests.topic if model in project.models else None,
        answers,
    )
    graph = version_graph(made, wall_clock())
    return graph, f"model:{made.name}", model_versions.describe_version(state, number, manifest)


def _project(settings: Settings) -> Project:
    """Return the project, or an empty one: without it the lineage of a version lacks only the role of requests."""
    from headrace.app.project.project import Project, load_project

    try:
        return load_project(settings)
    except ProjectError as error:
        typer.echo(f"without the definitions of the project: {error}", err=True)
        return Project()


def _version(name: str) -> tuple[str, int]:
    """Return the model and the number of a version that was typed. Raises BadParameter if it has no number."""
    model, _, number = name.removeprefix("model:").rpartition("@")
    if not model or not number.isdecimal():
        message = f"{name!r} is no version of a model; write for example delay@3, as `headrace models list` shows them"
        raise typer.BadParameter(message)
    return model, int(number)


def _row(graph: FlowGraph, node: FlowNode) -> dict[str, str | None]:
    facts = ", ".join(f"{key} {_fact(value)}" for key, value in node.facts.items() if value is not None)
    return {
        "kind": node.kind,
        "name": node.name,
        "from": _ends(graph.sources(node.id), "source"),
        "to": _ends(graph.targets(node.id), "target"),
        "facts": facts or None,
    }


def _ends(edges: Iterable[FlowEdge], end: str) -> str | None:
    found = [getattr(edge, end) + (f" ({edge.role})" if edge.role else "") for edge in edges]
    return ", ".join(found) or None


def _fact(value: Any) -> str:
    if isinstance(value, dict):
        return harmless(" ".join(f"{key}={each}" for key, each in value.items()))
    return harmless(f"{value:,}" if isinstance(value, int) else str(value))
