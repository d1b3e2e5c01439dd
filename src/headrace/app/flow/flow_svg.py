"""Draws a flow graph as SVG: in the color of the text around it, with names for screen readers, the same each time."""

from __future__ import annotations

import json
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING

from headrace.app.flow.flow_layout import HEIGHT, layout

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from headrace.app.flow.flow_graph import FlowGraph, FlowNode
    from headrace.app.flow.flow_layout import PlacedEdge, PlacedNode, Point

_OWN_COLORS = "<style>svg{color:#30343b}@media(prefers-color-scheme:dark){svg{color:#d8dee9}}</style>"
"""For a file. In a page the drawing has the color of the text around it."""
_BEGIN = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
    'role="img" aria-labelledby="{id}-title {id}-desc" font-family="system-ui, sans-serif" font-size="13" '
    'fill="currentColor">'
)
_STRAIGHT = 1.0


def flow_svg(
    graph: FlowGraph, title: str, *, focus: str | None = None, id_: str = "flow", is_file: bool = False
) -> str:
    """Return the drawing of a graph.

    ``focus`` is the id of the node with the strong frame. ``id_`` begins the ids in the drawing, of which a page may
    have several. Boxes have ``data-node``, and edges ``data-edge``, so a page can find them.
    """
    placed = layout(graph)
    parts = [
        _BEGIN.format(width=f"{placed.width:g}", height=f"{placed.height:g}", id=id_),
        f'<title id="{id_}-title">{_text(title)}</title><desc id="{id_}-desc">{_text(told(graph))}</desc>',
        _OWN_COLORS if is_file else "",
        *(f'<text x="{x:g}" y="18" font-size="11" fill-opacity="0.75">{kinds}</text>' for x, kinds in placed.headings),
        '<g fill="none" stroke="currentColor" stroke-opacity="0.45" stroke-width="1.4">',
        *(_edge(each) for each in placed.edges),
        "</g>",
        *(_node(each, is_strong=each.node.id == focus) for each in placed.nodes),
        "</svg>",
    ]
    return "".join(parts)


def told(graph: FlowGraph) -> str:
    """Return the graph in words, one sentence for each node that something is made from.

    >>> from headrace.app.flow.flow_graph import FlowEdge, FlowGraph, FlowNode
    >>> nodes = FlowNode(kind="topic", name="sales"), FlowNode(kind="view", name="shop")
    >>> told(FlowGraph(nodes, (FlowEdge("topic:sales", "view:shop"),)))
    'topic sales feeds view shop.'
    """
    found = [
        f"{node.kind} {node.name} feeds {', '.join(_end(graph, edge.target, edge.role) for edge in edges)}."
        for node in graph.nodes
        if (edges := graph.targets(node.id))
    ]
    return " ".join(found) or "Nothing is connected."


def _end(graph: FlowGraph, id_: str, role: str) -> str:
    node = graph.by_id[id_]
    return f"{node.kind} {node.name}" + (f" ({role})" if role else "")


def _edge(placed: PlacedEdge) -> str:
    edge = placed.edge
    name = f"{edge.source} → {edge.target}" + (f" ({edge.role})" if edge.role else "")
    dashes = ' stroke-dasharray="4 3"' if edge.role else ""
    return (
        f'<path data-edge="{_text(edge.source)} {_text(edge.target)}" d="{_path(placed.points)}"{dashes}>'
        f"<title>{_text(name)}</title></path>"
    )


def _path(points: Sequence[Point]) -> str:
    (x, y), *_ = points
    return f"M{x:g} {y:g}" + "".join(_segments(points))


def _segments(points: Sequence[Point]) -> Iterator[str]:
    for (x, y), (to_x, to_y) in pairwise(points):
        middle = round((x + to_x) / 2, 1)
        is_straight = abs(y - to_y) < _STRAIGHT
        yield f"L{to_x:g} {to_y:g}" if is_straight else f"C{middle:g} {y:g} {middle:g} {to_y:g} {to_x:g} {to_y:g}"


def _node(placed: PlacedNode, *, is_strong: bool) -> str:
    node, x, y = placed.node, placed.x, placed.y
    stroke = 2.5 if is_strong else 1
    return (
        f'<g data-node="{_text(node.id)}"><title>{_text(_told(node))}</title>'
        f'<rect x="{x:g}" y="{y:g}" width="{placed.width:g}" height="{HEIGHT}" rx="6" fill="currentColor" '
        f'fill-opacity="0.06" stroke="currentColor" stroke-width="{stroke:g}"/>'
        f'<text x="{x + 12:g}" y="{y + 19:g}">{_text(placed.label)}</text>'
        f'<text x="{x + 12:g}" y="{y + 34:g}" font-size="11" fill-opacity="0.75" data-note="{_text(node.id)}">'
        f"{_text(_note(node))}</text></g>"
    )


def _note(node: FlowNode) -> str:
    """Return the second line of a box: the kind, and the begin of the version if there is one."""
    version = node.facts.get("version")
    return f"{node.kind} {str(version)[:8]}" if version else node.kind


def _told(node: FlowNode) -> str:
    return " · ".join([f"{node.kind} {node.name}", *(f"{key}: {_fact(value)}" for key, value in node.facts.items())])


def _fact(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(text: str) -> str:
    """Return a text for XML, which has no control characters."""
    return escape("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text))
