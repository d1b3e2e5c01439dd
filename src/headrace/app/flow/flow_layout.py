"""Places the nodes and edges of a flow graph: one column for each rank, and few crossings.

An edge that skips a column runs through places of its own there, so that no box covers it. Barycentre sweeps order the
columns, and a second pass moves each place as near to its neighbours as the order allows.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.app.flow.flow_graph import FlowEdge, FlowGraph, FlowNode

HEIGHT = 44
_LANE, _GAP, _BETWEEN, _MARGIN, _HEADING = 10, 16, 72, 12, 26
_LETTER, _PADDING, _MOST_LETTERS, _LEAST_WIDTH = 7.4, 24, 30, 136
_SWEEPS = 12

Point = tuple[float, float]
Columns = list[list[str]]


@dataclass(frozen=True)
class PlacedNode:
    """A node with the upper left corner of its box. ``label`` is its name, shortened if it is long."""

    node: FlowNode
    x: float
    y: float
    width: float
    label: str


@dataclass(frozen=True)
class PlacedEdge:
    """An edge with the points through which it runs, from left to right. Between two columns it is a curve."""

    edge: FlowEdge
    points: tuple[Point, ...]


@dataclass(frozen=True)
class FlowLayout:
    """A graph with all places. ``headings`` are the columns: the x of each, and what it has."""

    nodes: tuple[PlacedNode, ...]
    edges: tuple[PlacedEdge, ...]
    headings: tuple[tuple[float, str], ...]
    width: float
    height: float


def layout(graph: FlowGraph) -> FlowLayout:
    """Return the places of a graph. They depend on the graph alone."""
    chains = {edge: _chain(edge, graph.ranks, number) for number, edge in enumerate(graph.edges)}
    links = [link for chain in chains.values() for link in pairwise(chain)]
    columns = _ordered(_first_columns(graph, chains.values()), links)
    middles = _middles(columns, links, graph)
    widths = [max((_width(graph, slot) for slot in column), default=_LEAST_WIDTH) for column in columns]
    lefts = [_MARGIN + sum(widths[:rank]) + _BETWEEN * rank for rank in range(len(columns))]
    nodes = [
        PlacedNode(node, lefts[rank], round(middles[node.id] - HEIGHT / 2, 1), widths[rank], shortened(node.name))
        for node in graph.nodes
        for rank in [graph.ranks[node.id]]
    ]
    sides = {slot: (lefts[rank], lefts[rank] + widths[rank]) for rank, column in enumerate(columns) for slot in column}
    edges = [PlacedEdge(edge, _points(chain, sides, middles)) for edge, chain in chains.items()]
    return FlowLayout(
        tuple(nodes),
        tuple(edges),
        tuple((left, _heading(graph, rank)) for rank, left in enumerate(lefts)),
        round(max((x + width for x, width in zip(lefts, widths, strict=True)), default=0) + _MARGIN, 1),
        round(max((middles[slot] for slot in middles), default=_HEADING) + HEIGHT / 2 + _MARGIN, 1),
    )


def shortened(name: str) -> str:
    """Return a name that fits into a box: its beginning and its end, if it is long."""
    if len(name) <= _MOST_LETTERS:
        return name
    half = _MOST_LETTERS // 2
    return f"{name[: half - 1]}…{name[-half:]}"


def _heading(graph: FlowGraph, rank: int) -> str:
    """Return the kinds of a column's nodes: only topics and processors may share one."""
    return ", ".join(dict.fromkeys(f"{node.kind}s" for node in graph.nodes if graph.ranks[node.id] == rank))


def _width(graph: FlowGraph, slot: str) -> float:
    node = graph.by_id.get(slot)
    letters = 0 if node is None else len(shortened(node.name))
    return max(_LEAST_WIDTH, round(letters * _LETTER + _PADDING, 1))


def _chain(edge: FlowEdge, ranks: Mapping[str, int], number: int) -> tuple[str, ...]:
    """Return the slots of an edge from left to right: its nodes, and a lane in each column between them."""
    left, right = sorted((edge.source, edge.target), key=lambda id_: ranks[id_])
    lanes = (f"{number}/{rank}" for rank in range(ranks[left] + 1, ranks[right]))
    return (left, *lanes, right)


def _first_columns(graph: FlowGraph, chains: Iterable[tuple[str, ...]]) -> Columns:
    columns: Columns = [[] for _ in range(max(graph.ranks.values(), default=-1) + 1)]
    for node in graph.nodes:
        columns[graph.ranks[node.id]].append(node.id)
    for chain in chains:
        for rank, lane in enumerate(chain[1:-1], graph.ranks[chain[0]] + 1):
            columns[rank].append(lane)
    return columns


# -- the order in each column -----------------------------------------------------------------------------------------


def _ordered(columns: Columns, links: Sequence[tuple[str, str]]) -> Columns:
    """Return the order with the fewest crossings that the sweeps find."""
    lefts, rights = _neighbours(links)
    best, fewest = columns, crossings(columns, links)
    for sweep in range(_SWEEPS):
        columns = _swept(columns, rights if sweep % 2 else lefts, backwards=bool(sweep % 2))
        found = crossings(columns, links)
        if found < fewest:
            best, fewest = columns, found
    return best


def _neighbours(links: Iterable[tuple[str, str]]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    lefts: dict[str, list[str]] = {}
    rights: dict[str, list[str]] = {}
    for left, right in links:
        lefts.setdefault(right, []).append(left)
        rights.setdefault(left, []).append(right)
    return lefts, rights


def _swept(columns: Columns, neighbours: Mapping[str, list[str]], *, backwards: bool) -> Columns:
    """Order each column by the mean place of its neighbours in the column before it."""
    found = list(columns)
    ranks = range(len(columns) - 2, -1, -1) if backwards else range(1, len(columns))
    for rank in ranks:
        before = found[rank + 1 if backwards else rank - 1]
        places = {slot: place / max(len(before) - 1, 1) for place, slot in enumerate(before)}
        own = {slot: place / max(len(found[rank]) - 1, 1) for place, slot in enumerate(found[rank])}

        def middle(slot: str, places: Mapping[str, float] = places, own: Mapping[str, float] = own) -> float:
            near = [places[other] for other in neighbours.get(slot, []) if other in places]
            return sum(near) / len(near) if near else own[slot]

        found[rank] = sorted(found[rank], key=middle)
    return found


def crossings(columns: Columns, links: Iterable[tuple[str, str]]) -> int:
    """Return how often two links cross, if each column is in this order."""
    places = {slot: (rank, place) for rank, column in enumerate(columns) for place, slot in enumerate(column)}
    found, rank, seen = 0, -1, list[int]()
    for (of, _), (_, end) in sorted((places[left], places[right]) for left, right in links):
        if of != rank:
            rank, seen = of, []
        found += len(seen) - bisect_right(seen, end)
        insort(seen, end)
    return found


# -- the places within the order --------------------------------------------------------------------------------------


def _middles(columns: Columns, links: Sequence[tuple[str, str]], graph: FlowGraph) -> dict[str, float]:
    """Return the y of the middle of each slot."""
    heights = {slot: HEIGHT if slot in graph.by_id else _LANE for column in columns for slot in column}
    lefts, rights = _neighbours(links)
    found: dict[str, float] = {}
    for column in columns:
        found |= _stacked(column, heights, dict.fromkeys(column, 0.0))
    for sweep in range(_SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = {slot: [found[each] for each in lefts.get(slot, []) + rights.get(slot, [])] for slot in column}
            found |= _stacked(
                column, heights, {slot: sum(ys) / len(ys) if ys else found[slot] for slot, ys in wanted.items()}
            )
    top = min((found[slot] - heights[slot] / 2 for slot in found), default=0.0)
    return {slot: round(y - top + _MARGIN + _HEADING, 1) for slot, y in found.items()}


def _stacked(column: Sequence[str], heights: Mapping[str, int], wanted: Mapping[str, float]) -> dict[str, float]:
    """Return the places that are nearest to the wanted ones, with the order and the gaps of the column."""
    depths, depth = [], 0.0
    for above, slot in zip([None, *column], column, strict=False):
        depth += 0.0 if above is None else (heights[above] + heights[slot]) / 2 + _GAP
        depths.append(depth)
    blocks: list[tuple[float, int]] = []  # the mean of each run of slots that touch, and how many they are
    for slot, down in zip(column, depths, strict=True):
        blocks.append((wanted[slot] - down, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, few), (other, more) = blocks[-2:]
            blocks[-2:] = [((one * few + other * more) / (few + more), few + more)]
    tops = [mean for mean, count in blocks for _ in range(count)]
    return {slot: top + down for slot, top, down in zip(column, tops, depths, strict=True)}


def _points(
    chain: Sequence[str], sides: Mapping[str, tuple[float, float]], middles: Mapping[str, float]
) -> tuple[Point, ...]:
    """Return the points of an edge: it leaves a box at its right, and runs straight through the lanes."""
    first, *lanes, last = chain
    points = [(sides[first][1], middles[first])]
    for lane in lanes:
        points += [(sides[lane][0], middles[lane]), (sides[lane][1], middles[lane])]
    return (*points, (sides[last][0], middles[last]))
