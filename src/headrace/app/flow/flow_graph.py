"""The flow graph: what is made from what, from the topics to the applications."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from headrace.errors import TerminalError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NodeKind = Literal["topic", "processor", "view", "service", "model", "application"]
KINDS: tuple[NodeKind, ...] = get_args(NodeKind)
_AFTER_TOPICS: tuple[NodeKind, ...] = ("view", "service", "model", "application")


class FlowNode(msgspec.Struct, frozen=True, kw_only=True):
    """A topic, processor, view, service, model or application. ``facts`` is what else is known of it, in order."""

    kind: NodeKind
    name: str
    facts: dict[str, Any] = {}

    @property
    def id(self) -> str:
        """The name with its kind, such as ``view:airport``: a service and a model may have one name."""
        return f"{self.kind}:{self.name}"


class FlowEdge(msgspec.Struct, frozen=True):
    """An edge: ``target`` is made from ``source``. Both are ids; ``role`` says as what, if that is not plain."""

    source: str
    target: str
    role: str = ""


class FlowGraph(msgspec.Struct, frozen=True, dict=True):
    """Nodes and the edges between them.

    >>> graph = FlowGraph(
    ...     (FlowNode(kind="topic", name="sales"), FlowNode(kind="view", name="shop")),
    ...     (FlowEdge("topic:sales", "view:shop"),),
    ... )
    >>> graph.ranks
    {'topic:sales': 0, 'view:shop': 1}
    """

    nodes: tuple[FlowNode, ...]
    edges: tuple[FlowEdge, ...]

    @cached_property
    def by_id(self) -> dict[str, FlowNode]:
        """The nodes by their ids."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def ranks(self) -> dict[str, int]:
        """The column of each node, from 0 on. It follows from the kind; processors stand between the topics."""
        found = _topic_ranks(self)
        begin = max(found.values(), default=-1) + 1
        found |= {node.id: begin + _AFTER_TOPICS.index(node.kind) for node in self.nodes if node.kind in _AFTER_TOPICS}
        places = {rank: place for place, rank in enumerate(sorted(set(found.values())))}
        return {node.id: places[found[node.id]] for node in self.nodes}

    def names(self, kind: NodeKind) -> list[str]:
        """Return the names of the nodes of a kind."""
        return [node.name for node in self.nodes if node.kind == kind]

    def sources(self, id_: str) -> list[FlowEdge]:
        """Return the edges that lead to a node."""
        return [edge for edge in self.edges if edge.target == id_]

    def targets(self, id_: str) -> list[FlowEdge]:
        """Return the edges that leave a node."""
        return [edge for edge in self.edges if edge.source == id_]

    def focused(self, id_: str, ranks: int | None = None) -> FlowGraph:
        """Return what the node is made from, and what is made from it.

        ``ranks`` is the largest distance in columns; None is without a bound.
        """
        near = {other for other, rank in self.ranks.items() if ranks is None or abs(rank - self.ranks[id_]) <= ranks}
        kept = _reached(id_, _pairs(self.edges), near) | _reached(id_, _pairs(self.edges, back=True), near)
        return FlowGraph(
            tuple(node for node in self.nodes if node.id in kept),
            tuple(edge for edge in self.edges if edge.source in kept and edge.target in kept),
        )

    def find(self, name: str) -> FlowNode:
        """Return the node of a name or an id.

        Raises TerminalError if there is none, or if the name has several kinds of nodes.
        """
        found = [node for node in self.nodes if name in {node.name, node.id}]
        if len(found) == 1:
            return found[0]
        if found:
            raise TerminalError(f"{name!r} has {len(found)} meanings: write {' or '.join(node.id for node in found)}")
        known = "; ".join(_listed(self.nodes, kind) for kind in KINDS if any(n.kind == kind for n in self.nodes))
        raise TerminalError(f"nothing here has the name {name!r}. Known are: {known or 'none'}")

    def plain(self) -> dict[str, Any]:
        """Return the graph for JSON."""
        return {
            "nodes": [{"id": node.id, **msgspec.to_builtins(node)} for node in self.nodes],
            "edges": [msgspec.to_builtins(edge) for edge in self.edges],
        }


def _listed(nodes: Iterable[FlowNode], kind: NodeKind) -> str:
    return f"{kind}s " + ", ".join(node.name for node in nodes if node.kind == kind)


def _pairs(edges: Iterable[FlowEdge], *, back: bool = False) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for edge in edges:
        begin, end = (edge.target, edge.source) if back else (edge.source, edge.target)
        found.setdefault(begin, []).append(end)
    return found


def _reached(id_: str, ways: Mapping[str, list[str]], near: set[str]) -> set[str]:
    """Return all nodes to which the ways lead from a node, with the node itself."""
    found, open_ = {id_}, [id_]
    while open_:
        new = [other for other in ways.get(open_.pop(), []) if other in near and other not in found]
        found.update(new)
        open_ += new
    return found


def _topic_ranks(graph: FlowGraph) -> dict[str, int]:
    """Return the columns of topics and processors: each stands right of what it reads.

    A processor may feed itself by way of others. The edge that closes such a circle leads to the left.
    """
    nodes = [node.id for node in graph.nodes if node.kind in {"topic", "processor"}]
    sources = {id_: [edge.source for edge in graph.sources(id_) if edge.source in graph.by_id] for id_ in nodes}
    found: dict[str, int] = {}
    for id_ in nodes:
        _rank(id_, sources, found, ())
    return found


def _rank(id_: str, sources: Mapping[str, list[str]], found: dict[str, int], above: tuple[str, ...]) -> int:
    if id_ not in found:
        way = (*above, id_)
        before = [_rank(source, sources, found, way) for source in sources[id_] if source not in way]
        found[id_] = max(before, default=-1) + 1
    return found[id_]
