"""The demo on 75 days: its report, 10,000 of its vectors, and the page for persons on call, which goes on from it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from headrace.app.local.lock import running
from headrace.bus.producer import EventProducer
from headrace.event_log.columns import ACCEPTED
from headrace.event_log.event_log import EventLog
from streams.flights import Scheduled, scheduled
from tests.support.console_page import difference, run, shown
from tests.support.demo_run import run_demo
from tests.support.on_call_scene import DAYS, OF_STREAM, OnCallScene, on_call_scene
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

PAGE = "docs/how-to/on-call.md"
pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.timeout(1_800),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a demo that has run, with its data."""
    return run_demo(tmp_path_factory.mktemp("demo"), "--days", str(DAYS))


@pytest.fixture(scope="module")
def report(finished: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((finished / "demo-report.json").read_text())
    return content


def test_the_demo_loses_nothing_and_duplicates_nothing(report: dict[str, Any]) -> None:
    assert (report["lost"], report["duplicated"], report["dead_letters"]) == (0, 0, 0)
    assert report["events"] > 100_000


def test_the_first_version_is_published_and_predicts_the_same_hour(report: dict[str, Any]) -> None:
    first = report["versions"][0]
    assert (first["version"], first["cause"]) == (1, "first")
    assert first["swapped_at"] == first["published_at"]
    assert report["predictions"] > 10_000
    assert report["auc"]["live"] > 0.65


def test_every_served_vector_is_what_the_event_log_says(report: dict[str, Any]) -> None:
    assert report["audit"]["checked"] == report["predictions"]
    assert report["audit"]["mismatched"] == 0, report["audit"]["examples"]


def test_in_lockstep_serving_and_training_see_the_same(report: dict[str, Any]) -> None:
    assert report["skew"]["equal"] == report["skew"]["checked"] == report["predictions"]


def test_every_predicted_flight_without_a_label_has_a_reason(report: dict[str, Any]) -> None:
    assert set(report["unlabelled"]) <= {"cancelled", "diverted", "not matured"}


def test_decisions_are_counted_by_rule(report: dict[str, Any]) -> None:
    assert report["decisions"]["first"]["fired"] == 1
    assert report["decisions"]["first"]["evaluated"] >= 20


def test_ten_thousand_served_vectors_are_those_of_a_plain_loop_over_the_csv(finished: Path) -> None:
    naive = load("naive_flights")
    vectors = EventLog(finished / "data" / "events").read("headrace.vectors")
    vectors = vectors.filter(pl.col("__verdict") == ACCEPTED).sample(10_000, seed=7)
    asked = list(
        zip(
            vectors.get_column("key").cast(pl.Int64).to_list(),
            vectors.get_column("served_at").dt.epoch("us").to_list(),
            strict=True,
        )
    )
    expected = naive.expected_vectors(asked)
    served = vectors.get_column("values").to_list()
    different = [
        (place, found, expected[place])
        for place, found in zip(asked, served, strict=True)
        if not same(found, expected[place])
    ]
    assert len(served) == 10_000
    assert different == []


def same(found: list[float | None], wanted: list[float | None]) -> bool:
    """Equal; sums and means in the tolerance of the law."""
    return len(found) == len(wanted) and all(
        one is other if one is None or other is None else abs(one - other) <= 1e-9 * max(1.0, abs(other))
        for one, other in zip(found, wanted, strict=True)
    )


def load(name: str) -> ModuleType:
    """A module beside this one, which must not import what it checks."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plain_loop_imports_nothing_of_what_it_checks() -> None:
    lines = Path(__file__).with_name("naive_flights.py").read_text().splitlines()
    imported = {line.split()[1].split(".")[0] for line in lines if line.startswith(("import ", "from "))}
    assert imported.isdisjoint({"headrace", "streams", "features", "trainers"})


@pytest.fixture(scope="module")
def scene(finished: Path) -> Iterator[OnCallScene]:
    """The processes of the page for persons on call, and its commands' environment. The tests before have read all."""
    with on_call_scene(finished / "data") as found:
        yield found


def test_each_command_of_the_page_for_persons_on_call_prints_what_it_says(scene: OnCallScene) -> None:
    commands = list(shown(PAGE))
    assert len(commands) > 15
    wrong = []
    for each in commands:
        if "once more" in each.command:
            scene.hold_fits()  # until the run is cancelled
        wrong.append(difference(each, run(each.command, scene.environment)))
        if "runs cancel" in each.command:
            scene.release_fits()
    assert "".join(wrong) == ""


def test_models_of_other_tasks_are_trained_and_served_by_the_same_processes(scene: OnCallScene) -> None:
    names = ["delay_minutes", "delay_class", "delay_range"]
    variables = {**OF_STREAM, "HEADRACE_PROJECT__TRAINERS": '["more_trainers"]'}
    scene.processes["trainer"].stop()
    scene.start("other-trainer", ("trainer",), "models taken over", **variables)
    environment = {**scene.environment, **variables}
    for name in names:
        scene.start(name, ("score", name, "--application", "gate"), "application starts", **variables)

    def live(name: str) -> list[int | None]:
        printed = run(f"headrace models live-at {name} --json", environment)
        found = json.loads(printed)["applications"] if printed.startswith("{") else []
        return [each["version"] for each in found if each["where"] == "gate"]

    until(lambda: all(live(name) == [1] for name in names), 600, scene.said)
    newest = EventLog(scene.data / "events").read(scheduled.topic).sort("requested_at").tail(1).to_dicts()[0]
    fields = {name: newest[name] for name in Scheduled.__struct_fields__}
    asked = Scheduled(**{**fields, "flight_id": 999_999})
    services = running(scene.data)
    assert services is not None
    producer = EventProducer(str(services.bootstrap_servers))
    producer.send(scheduled, asked, timestamp=asked.requested_at)
    producer.flush()

    def answered() -> dict[str, Any]:
        rows = json.loads(run("headrace predictions list --key 999999 --json", environment))
        return {row["model"]: row for row in rows}

    until(lambda: set(names) <= answered().keys(), 60)
    found = answered()
    assert {found[name]["version"] for name in names} == {1}
    assert len(found["delay_class"]["values"]) == len(found["delay_range"]["values"]) == 3
    assert sum(found["delay_class"]["values"]) == pytest.approx(1)
    assert sorted(found["delay_range"]["values"]) == found["delay_range"]["values"]
