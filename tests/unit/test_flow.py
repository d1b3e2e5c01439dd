"""The flow graph: what is made from what, where each node stands, and the drawing."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from itertools import combinations

import msgspec
import pytest

from headrace.app.flow.definition_graph import definition_graph, definition_graph_apart
from headrace.app.flow.flow_graph import KINDS, FlowEdge, FlowGraph, FlowNode
from headrace.app.flow.flow_layout import HEIGHT, crossings, layout, shortened
from headrace.app.flow.flow_svg import flow_svg, told
from headrace.app.flow.version_graph import VersionSources, version_graph
from headrace.app.project.project import load_project
from headrace.app.project.settings_sources import load_settings
from headrace.errors import TerminalError
from headrace.models.model_events import Acknowledgement
from tests.support.model_events import MANIFEST, PUBLISHED

SPACE = "{http://www.w3.org/2000/svg}"
NOW = 1_400_000_000_000_000


def graph(*edges: str) -> FlowGraph:
    """A graph of edges such as "topic:a view:b"; its nodes stand in the order of their kinds and names."""
    pairs = [FlowEdge(source, target, " ".join(role)) for source, target, *role in map(str.split, edges)]
    ids = {end for edge in pairs for end in (edge.source, edge.target)}
    kinds = list(KINDS)
    nodes = sorted((id_.split(":", 1) for id_ in ids), key=lambda each: (kinds.index(each[0]), each[1]))  # type: ignore[arg-type]
    return FlowGraph(tuple(FlowNode(kind=kind, name=name) for kind, name in nodes), tuple(pairs))  # type: ignore[arg-type]


REFERENCE = definition_graph(load_project(load_settings()), {"boarding": {"delay": 3}})
LONG = graph("topic:a view:v", "view:v service:s", "service:s model:m", "topic:a model:m requests", "topic:b model:m")
CIRCLE = graph(
    "topic:a processor:p", "processor:p topic:b", "topic:b processor:q", "processor:q topic:a", "topic:c view:v"
)


def test_the_graph_of_a_project_leads_from_topics_to_applications() -> None:
    assert [node.id for node in REFERENCE.nodes if node.kind in {"topic", "model", "application"}] == [
        "topic:flights.arrived", "topic:flights.departed", "topic:flights.scheduled", "topic:weather.observed",
        "model:delay", "application:boarding",
    ]  # fmt: skip
    assert FlowEdge("topic:flights.scheduled", "model:delay", "requests") in REFERENCE.edges
    assert FlowEdge("model:delay", "application:boarding") in REFERENCE.edges
    assert [edge.source for edge in REFERENCE.sources("view:route")] == ["topic:flights.arrived"]


def test_a_name_with_two_meanings_is_refused_with_both() -> None:
    with pytest.raises(TerminalError, match="write service:delay or model:delay"):
        REFERENCE.find("delay")
    assert REFERENCE.find("model:delay").kind == "model"
    with pytest.raises(TerminalError, match="views airport, carrier"):
        REFERENCE.find("airprot")


def test_the_focus_keeps_what_a_node_is_made_from_and_what_is_made_from_it() -> None:
    found = REFERENCE.focused("view:weather")
    assert [node.id for node in found.nodes] == [
        "topic:weather.observed", "view:weather", "service:delay", "model:delay", "application:boarding",
    ]  # fmt: skip
    assert {node.kind for node in REFERENCE.focused("view:weather", 1).nodes} == {"topic", "view", "service"}


@pytest.mark.parametrize("of", [REFERENCE, LONG, CIRCLE, REFERENCE.focused("view:weather")])
def test_a_rank_is_right_of_what_it_reads(of: FlowGraph) -> None:
    to_the_left = [edge for edge in of.edges if of.ranks[edge.source] >= of.ranks[edge.target]]
    assert len(to_the_left) == (1 if of is CIRCLE else 0), "one edge closes the circle"
    assert sorted(set(of.ranks.values())) == list(range(len(set(of.ranks.values()))))


def test_the_boxes_of_a_column_do_not_touch_and_no_edge_runs_behind_one() -> None:
    for of in (REFERENCE, LONG, CIRCLE, wide(40)):
        placed = layout(of)
        for one, other in combinations(placed.nodes, 2):
            apart = abs(one.y - other.y) >= HEIGHT or one.x + one.width < other.x or other.x + other.width < one.x
            assert apart, (one, other)
        for edge in placed.edges:
            for (x, y), (to_x, to_y) in list(zip(edge.points, edge.points[1:], strict=False))[1::2]:
                assert y == to_y, "it runs straight through a column"
                assert not any(
                    node.x < to_x and x < node.x + node.width and node.y <= y <= node.y + HEIGHT
                    for node in placed.nodes
                )
        assert all(node.x > 0 and node.y > 0 and node.x + node.width < placed.width for node in placed.nodes)
        assert all(node.y + HEIGHT < placed.height for node in placed.nodes)


def wide(views: int) -> FlowGraph:
    """Topics whose views are in the opposite order, and topics that the model reads itself."""
    edges = [f"topic:t{number:02} view:v{views - number:02}" for number in range(views)]
    edges += [f"view:v{number + 1:02} service:s{number % 5}" for number in range(views)]
    edges += [f"service:s{number} model:m{4 - number}" for number in range(5)]
    return graph(*edges, *(f"topic:t{number:02} model:m0" for number in range(0, views, 10)))


def test_the_sweeps_undo_crossings() -> None:
    found = layout(graph(*(f"topic:t{number:02} view:v{20 - number:02}" for number in range(20))))
    rows = {node.node.id: node.y for node in found.nodes}
    assert all(rows[each.edge.source] == rows[each.edge.target] for each in found.edges)
    assert crossings([["a", "b"], ["c", "d"]], [("a", "d"), ("b", "c")]) == 1
    assert crossings([["a", "b"], ["c", "d"]], [("a", "c"), ("b", "c"), ("b", "d")]) == 0


def test_a_drawing_is_xml_that_names_each_node_and_has_no_style_of_its_own() -> None:
    drawn = flow_svg(REFERENCE, "What is made from <what>", focus="model:delay", id_="now")
    assert drawn == flow_svg(definition_graph(load_project(load_settings()), {"boarding": {"delay": 3}}),
        "What is made from <what>", focus="model:delay", id_="now")  # fmt: skip
    root = ET.fromstring(drawn)
    assert root.get("aria-labelledby") == "now-title now-desc"
    assert root.findtext(f"{SPACE}title") == "What is made from <what>"
    assert "topic flights.arrived feeds view destination, view route, model delay (labels)." in told(REFERENCE)
    assert root.findtext(f"{SPACE}desc") == told(REFERENCE)
    assert {each.get("data-node") for each in root.iter(f"{SPACE}g")} - {None} == {node.id for node in REFERENCE.nodes}
    assert len([each for each in root.iter() if each.get("stroke-width") == "2.5"]) == 1
    assert "style" not in drawn, "a page with a strict policy shows it"
    assert "#" not in drawn, "its color is that of the text around it"


def test_names_from_outside_are_only_text_in_a_drawing() -> None:
    name = 'x"><script>\x1b\x00' + "y" * 40
    drawn = flow_svg(FlowGraph((FlowNode(kind="application", name=name),), ()), name)
    assert "<script" not in drawn
    assert ET.fromstring(drawn).findtext(f"{SPACE}desc") == "Nothing is connected."
    assert len(shortened(name)) == 30
    assert ET.fromstring(flow_svg(FlowGraph((), ()), "nothing")).get("role") == "img"


def test_the_lineage_of_a_version_has_offsets_hashes_code_run_and_applications() -> None:
    answers = [
        Acknowledgement(application=name, model="delay", version=version, event_id="e", ok=ok, at_us=at)
        for name, version, ok, at in (("a", 1, True, 1), ("a", 2, True, 2), ("b", 1, False, 3), ("c", 1, True, 4))
    ]
    spec = load_project(load_settings()).views["airport"].spec
    found = version_graph(
        VersionSources("delay@1", PUBLISHED, MANIFEST, {"airport@a1b2": spec}, acknowledgements=answers), NOW
    )
    facts = {node.id: node.facts for node in found.nodes}
    assert facts["topic:flights.departed"] == {"read below": {"0": 120, "1": 98}}
    assert facts["view:airport"] == {"version": "a1b2"}
    assert facts["model:delay@1"]["code"] == "git:0123abc"
    assert facts["model:delay@1"]["run"] == "delay-1"
    assert facts["application:a"] == {"acknowledged": "1970-01-01T00:00:00Z", "later": "version 2"}
    assert "application:b" not in facts, "it has refused the version"
    assert [(edge.source, edge.target) for edge in found.edges] == [
        ("topic:flights.departed", "view:airport"),
        ("view:airport", "service:delay"),
        ("service:delay", "model:delay@1"),
        ("model:delay@1", "application:a"),
        ("model:delay@1", "application:c"),
    ]


def test_a_view_that_is_not_known_any_more_says_so() -> None:
    manifest = msgspec.structs.replace(MANIFEST, streams=[*MANIFEST.streams, msgspec.structs.replace(
        MANIFEST.streams[0], topic="flights.arrived")])  # fmt: skip
    found = version_graph(VersionSources("delay@1", PUBLISHED, manifest, requests="flights.departed"), NOW)
    assert found.by_id["view:airport"].facts["definition"] == "not known any more"
    roles = {(edge.source, edge.role) for edge in found.sources("model:delay@1")}
    assert roles == {("service:delay", ""), ("topic:flights.departed", "requests"), ("topic:flights.arrived", "labels")}


def test_the_drawing_and_the_words_say_the_same() -> None:
    drawn = flow_svg(LONG, "x")
    edges = re.findall(r'data-edge="(\S+) (\S+)"', drawn)
    assert edges == [(edge.source, edge.target) for edge in LONG.edges]
    assert told(LONG).count(" feeds ") == len({edge.source for edge in LONG.edges})


def test_a_graph_that_another_process_loads_is_the_same() -> None:
    assert definition_graph_apart(load_settings()) == definition_graph(load_project(load_settings()))
