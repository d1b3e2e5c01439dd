"""The flow graph of a project's definitions."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING

from headrace.app.flow.flow_graph import FlowEdge, FlowGraph, FlowNode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.view import FeatureView
    from headrace.trainers.definitions import Model


def definition_graph(project: Project, applications: Mapping[str, Mapping[str, int | None]] | None = None) -> FlowGraph:
    """Return the graph of all definitions, in the order of their names.

    ``applications`` has for each application the version of each model that it has loaded.
    """
    nodes = [FlowNode(kind="topic", name=topic) for topic in _topics(project)]
    nodes += [FlowNode(kind="processor", name=name) for name in sorted(project.processors)]
    nodes += [
        FlowNode(kind="view", name=name, facts={"version": view.version}) for name, view in _views(project).items()
    ]
    nodes += [
        FlowNode(kind="service", name=name, facts={"version": service.version})
        for name, service in _services(project).items()
    ]
    nodes += [
        FlowNode(kind="model", name=name, facts={"version": model.version})
        for name, model in sorted(project.models.items())
    ]
    return with_applications(FlowGraph(tuple(nodes), tuple(_definition_edges(project))), applications or {})


def with_applications(graph: FlowGraph, loaded: Mapping[str, Mapping[str, int | None]]) -> FlowGraph:
    """Return a graph with these applications, each behind the models that it has loaded a version of."""
    nodes = [
        FlowNode(kind="application", name=name, facts={"loaded": dict(versions)})
        for name, versions in sorted(loaded.items())
    ]
    edges = [
        FlowEdge(f"model:{model}", node.id)
        for node in nodes
        for model in sorted(loaded[node.name])
        if f"model:{model}" in graph.by_id
    ]
    return FlowGraph((*graph.nodes, *nodes), (*graph.edges, *edges))


def definition_graph_apart(settings: Settings) -> FlowGraph:
    """Return the graph of a project that another process loads, which then ends.

    A project imports what its models need. A process that runs for weeks and only draws them has no use for it. Raises
    what loading the project raises.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as apart:
        return apart.submit(_loaded_graph, settings).result()


def _loaded_graph(settings: Settings) -> FlowGraph:
    from headrace.app.project.project import load_project

    return definition_graph(load_project(settings))


def _topics(project: Project) -> list[str]:
    """Return all topics: of the project's streams, and of those that only other definitions name."""
    found = {*project.streams}
    found.update(topic for view in _views(project).values() for topic in view.spec.topics)
    for model in project.models.values():
        found |= {model.requests.topic, model.label.stream.topic}
    return sorted(found)


def _views(project: Project) -> dict[str, FeatureView]:
    found = dict(project.views)
    for service in _services(project).values():
        for view in service.views:
            found.setdefault(view.name, view)
    return dict(sorted(found.items()))


def _services(project: Project) -> dict[str, FeatureService]:
    found = dict(project.services)
    for model in project.models.values():
        found.setdefault(model.features.name, model.features)
    return dict(sorted(found.items()))


def _definition_edges(project: Project) -> Iterator[FlowEdge]:
    for name, processor in sorted(project.processors.items()):
        yield FlowEdge(f"topic:{processor.source.topic}", f"processor:{name}")
        yield from (FlowEdge(f"processor:{name}", f"topic:{stream.topic}") for stream in processor.into)
    for name, view in _views(project).items():
        yield from (FlowEdge(f"topic:{topic}", f"view:{name}") for topic in view.spec.topics)
    for name, service in _services(project).items():
        yield from (FlowEdge(f"view:{view.name}", f"service:{name}") for view in service.views)
    for _, model in sorted(project.models.items()):
        yield from model_edges(model)


def model_edges(model: Model) -> list[FlowEdge]:
    """Return the edges that lead to a model: from its service, its requests and its labels."""
    id_ = f"model:{model.name}"
    return [
        FlowEdge(f"service:{model.features.name}", id_),
        FlowEdge(f"topic:{model.requests.topic}", id_, "requests"),
        FlowEdge(f"topic:{model.label.stream.topic}", id_, "labels"),
    ]
