"""The lineage of one version of a model: from the topics with their offsets to the applications."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from headrace.app.flow.flow_graph import FlowEdge, FlowGraph, FlowNode
from headrace.base.times import utc_datetime
from headrace.models.live_at import loaded_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.models.manifest import Manifest
    from headrace.models.model_events import Acknowledgement, Published


@dataclass(frozen=True)
class VersionSources:
    """The sources of a version's lineage: the publication, the manifest, and the acknowledgements of its model.

    ``name`` is the version's, such as ``delay@3``.
    ``specs`` are the views that are known, by ``name@version``: deployed ones, and those of the project. ``requests``
    is the topic of the model's requests, if the project has the model.
    """

    name: str
    published: Published
    manifest: Manifest
    specs: Mapping[str, ViewSpec] = field(default_factory=dict)
    requests: str | None = None
    acknowledgements: Sequence[Acknowledgement] = ()


def version_graph(made: VersionSources, now_us: int) -> FlowGraph:
    """Return what a version was made from, and which applications have acknowledged it.

    A view whose spec is not known any more has no topics, and says so in its facts.
    """
    manifest, published = made.manifest, made.published
    name = made.name
    nodes = [
        *(_topic(topic, pins) for topic, pins in sorted(_pins(manifest).items())),
        *_views(made),
        FlowNode(kind="service", name=published.service.name, facts={"version": published.service.hash}),
        FlowNode(kind="model", name=name, facts=_facts(manifest, published)),
        *_applications(made, now_us),
    ]
    known = {node.id for node in nodes}
    edges = [edge for edge in _edges(made, f"model:{name}") if edge.source in known]
    edges += [FlowEdge(f"model:{name}", node.id) for node in nodes if node.kind == "application"]
    return FlowGraph(tuple(nodes), tuple(edges))


def _pins(manifest: Manifest) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for pin in manifest.streams:
        found.setdefault(pin.topic, {}).update(pin.offsets)
    return found


def _topic(name: str, offsets: Mapping[str, int]) -> FlowNode:
    return FlowNode(kind="topic", name=name, facts={"read below": dict(sorted(offsets.items()))})


def _views(made: VersionSources) -> Iterator[FlowNode]:
    for view in made.published.service.views:
        known = f"{view.name}@{view.spec_hash}" in made.specs
        facts = {"version": view.spec_hash} | ({} if known else {"definition": "not known any more"})
        yield FlowNode(kind="view", name=view.name, facts=facts)


def _facts(manifest: Manifest, published: Published) -> dict[str, Any]:
    git = {} if manifest.git is UNSET else {"commit": manifest.git.commit}
    return {
        "cause": published.cause.rule,
        "gate": published.gate.get("verdict"),
        "rows": manifest.rows,
        "trained to": _time(manifest.trained_to_us),
        "run": published.request_id,
        "code": manifest.code,
        **git,
    }


def _applications(made: VersionSources, now_us: int) -> Iterator[FlowNode]:
    """Yield the applications that have loaded the version, now or earlier."""
    version = made.published.version
    answers = [each for each in made.acknowledgements if each.ok and each.version == version]
    for now in loaded_at(made.acknowledgements, now_us):
        times = [each.at_us for each in answers if each.application == now.application and each.at_us <= now_us]
        if times:
            facts = {"acknowledged": _time(max(times))}
            facts |= {} if now.version == version else {"later": f"version {now.version}"}
            yield FlowNode(kind="application", name=now.application, facts=facts)


def _edges(made: VersionSources, model: str) -> Iterator[FlowEdge]:
    service = made.published.service
    topics = set()
    for view in service.views:
        spec = made.specs.get(f"{view.name}@{view.spec_hash}")
        for topic in () if spec is None else spec.topics:
            topics.add(topic)
            yield FlowEdge(f"topic:{topic}", f"view:{view.name}")
        yield FlowEdge(f"view:{view.name}", f"service:{service.name}")
    yield FlowEdge(f"service:{service.name}", model)
    labels = made.manifest.label.get("topic")
    for topic in sorted(_pins(made.manifest)):
        roles = [role for role, of in (("requests", made.requests), ("labels", labels)) if of == topic]
        yield from (FlowEdge(f"topic:{topic}", model, role) for role in roles)
        if not roles and topic not in topics:
            yield FlowEdge(f"topic:{topic}", model, "read by the run")


def _time(micros: int) -> str:
    return utc_datetime(micros).isoformat(timespec="seconds").replace("+00:00", "Z")
