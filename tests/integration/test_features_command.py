"""`headrace features`: what is served and why, from the real store and the event log."""

from __future__ import annotations

import json
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.app.project.project import load_project
from headrace.app.project.settings_sources import load_settings
from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.errors import DefinitionError, FeaturesUnknownError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.explanation import explain
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.streams.views.logged_rows import LoggedRows
from headrace.streams.views.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.app.project.project import Project

pytestmark = pytest.mark.integration
run = CliRunner()
START = datetime(2020, 1, 1, tzinfo=UTC)
SALES = """
from datetime import datetime
from headrace import Count, Entity, Event, FeatureService, FeatureView, Mean, Stream, col
class Sale(Event):
    shop: str
    till: int
    at: datetime
    amount: float
sales = Stream("sales", Sale, event_time="at")
till = FeatureView("till", Entity("till", keys={"shop": str, "till": int}), sales, ["10m", "1h"],
    {"n": Count(), "amount": Mean("amount")}, history="1d")
risk = FeatureService("risk", [till])
basket = FeatureService("basket", [till], {"is_dear": (col("price") > col("till__amount_1h")) | col("vip")},
    {"price": float, "vip": bool})
"""
ROWS = [(0, 1, 2.0), (0, 3, 4.0), (1, 5, 9.0), (0, 40, 6.0)]
"""Partition, minute, amount: all of till 1 of shop a."""


@pytest.fixture
def project(
    services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Project]:
    """A project whose sales are folded and logged."""
    module = f"m{uuid.uuid4().hex}"
    (tmp_path / f"{module}.py").write_text(SALES)
    (tmp_path / "headrace.toml").write_text(
        f'namespace = "{namespace}"\nredis_url = "{services.redis_url}"\nclock = "stream"\n'
        f'bootstrap_servers = "{services.bootstrap_servers}"\n[project]\nstreams = ["{module}"]\n'
        f'features = ["{module}"]\ntrainers = ["{module}"]\n'
    )
    monkeypatch.chdir(tmp_path)
    loaded = load_project(load_settings({}))
    store = RedisOnlineStore(services.redis_url, namespace)
    fill(loaded, store, EventLog(tmp_path / ".headrace" / "events"))
    yield loaded
    store.close()


def fill(project: Project, store: RedisOnlineStore, log: EventLog) -> None:
    """What a worker would have done."""
    stream, view = project.streams["sales"], project.views["till"]
    publish_definitions(store, [view], list(project.services.values()))
    writer = LogWriter(log, stream)
    for partition in range(2):
        source = SourcePartition(partition, b"s" * 16)
        own = [(START + timedelta(minutes=minute), amount) for of, minute, amount in ROWS if of == partition]
        values = [
            json.dumps({"shop": "a", "till": 1, "at": at.isoformat(), "amount": amount}).encode() for at, amount in own
        ]
        stamps = np.array([epoch_us(at) for at, _ in own])
        records = PartitionRecords(np.arange(len(own)), stamps, [None] * len(own), values)
        rows = RecordJudge(stream).rows(source.topic_id, partition, records, NO_CLOCK)
        folding = ViewPartition(view.spec, source, store)
        folding.acquire(b"o" * 16, 2)
        writes = folding.fold(LoggedRows.from_rows(rows, stream.event_time), len(own))
        assert all(store.write(writes))
        writer.append(rows, {source: None}, {source: len(own)})


def asked(*arguments: str) -> Any:
    found = run.invoke(build(), ["features", *arguments, "--json"], catch_exceptions=False)
    assert found.exit_code == 0, found.output
    return json.loads(found.output)


@pytest.mark.usefixtures("project")
def test_features_list_says_how_each_feature_is_computed() -> None:
    rows = asked("list")
    views = ["till__n_10m", "till__n_1h", "till__amount_10m", "till__amount_1h"]
    assert [row["feature"] for row in rows] == [*views, "is_dear"]
    assert rows[3] == {
        "feature": "till__amount_1h", "aggregate": "mean", "window": "1h", "entity": "shop, till", "source": "sales",
        "version": rows[0]["version"], "services": "risk, basket",
    }  # fmt: skip
    assert rows[4] == {
        "feature": "is_dear", "aggregate": "on demand", "window": None, "entity": None,
        "source": "price, till__amount_1h, vip", "version": rows[4]["version"], "services": "basket",
    }  # fmt: skip


def refused(*arguments: str) -> str:
    found = run.invoke(build(), ["features", *arguments])
    assert isinstance(found.exception, FeaturesUnknownError), found.output
    return str(found.exception)


def test_features_get_says_what_there_is_in_words_of_the_command_line(
    project: Project, services: LocalServices, namespace: str
) -> None:
    misspelt = refused("get", "rsik", "shop=a", "till=1")
    assert "'rsik'" in misspelt
    assert "the services ['basket', 'risk'] and the views ['till']" in misspelt
    with closing(RedisOnlineStore(services.redis_url, namespace)) as store:
        store.remove_documents(["service:risk", f"view:{project.views['till'].spec.versioned_name}"])
    told = [refused("get", of, "shop=a", "till=1") for of in ("risk", "till")]
    assert ["start `headrace worker`" in each for each in told] == [True, True]
    assert "get_views" not in f"{misspelt} {told}"


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("of", ["risk", "till"])
def test_features_get_gives_the_values_that_an_application_sees(of: str) -> None:
    found = asked("get", of, "shop=a", "till=1")
    values = {row["feature"]: row["value"] for row in found["features"]}
    assert values == {"till__n_10m": 1, "till__n_1h": 4, "till__amount_10m": 6.0, "till__amount_1h": 5.25}
    assert {row["status"] for row in found["features"]} == {"present"}
    earlier = asked("get", of, "shop=a", "till=1", "--as-of", "2020-01-01T00:06:00")
    assert {row["feature"]: row["value"] for row in earlier["features"]}["till__n_10m"] == 3


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("price", "vip", "is_dear"), [("5", "false", False), ("5.5", "false", True), ("5", "true", True)]
)
def test_features_get_takes_request_values(price: str, vip: str, is_dear: bool) -> None:
    found = asked("get", "basket", "shop=a", "till=1", f"price={price}", f"vip={vip}")["features"]
    assert found[-1] == {"feature": "is_dear", "value": is_dear, "status": None, "age": None}
    assert len(found) == 5


@pytest.mark.usefixtures("project")
def test_features_history_gives_the_values_of_a_training_set() -> None:
    rows = asked(
        "history", "till", "shop=a", "till=1", "--from", "2020-01-01", "--to", "2020-01-01T01:00", "--every", "30m"
    )
    assert [row["till__n_1h"] for row in rows] == [0, 3, 4]
    assert rows[1]["time"] == "2020-01-01T00:30:00+00:00"
    assert rows[0]["till__amount_1h"] is None


@pytest.mark.usefixtures("project")
def test_features_explain_names_tiles_events_offsets_and_version() -> None:
    found = asked("explain", "till__amount_1h", "shop=a", "till=1")
    assert (found["value"], found["status"]) == (5.25, "present")
    assert found["offsets"] == {f"{(b's' * 16).hex()}-0": 3, f"{(b's' * 16).hex()}-1": 1}
    assert [(tile["from"][11:16], tile["partition"], tile["value"]) for tile in found["tiles"]] == [
        ("00:01", 0, 2.0), ("00:03", 0, 4.0), ("00:05", 1, 9.0), ("00:40", 0, 6.0),
    ]  # fmt: skip
    assert [(event["__partition"], event["__offset"], event["amount"]) for event in found["events"]] == [
        (0, 0, 2.0), (0, 1, 4.0), (1, 0, 9.0), (0, 2, 6.0),
    ]  # fmt: skip
    two = asked("explain", "till__amount_1h", "shop=a", "till=1", "--as-of", "2020-01-01T00:06:00", "--events", "2")
    assert (two["value"], [event["amount"] for event in two["events"]]) == (5.0, [4.0, 9.0])
    nothing = asked("explain", "till__n_1h", "shop=b", "till=1")
    assert (nothing["value"], nothing["status"], nothing["tiles"], nothing["events"]) == (0, "missing", [], [])


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["get", "risk", "shop=a", "till=x"], "wanted a whole number"),
        (["get", "basket", "price=x"], "price='x': wanted a number"),
        (["get", "basket", "vip=yes"], "vip='yes': wanted true or false"),
        (["get", "risk", "price=1"], "wanted shop=…, till=…"),
        (
            ["explain", "is_dear"],
            "of the service 'basket', computed from price, till__amount_1h, vip",
        ),
        (["get", "risk", "sho=a"], "wanted shop=…, till=…"),
        (["explain", "till__n_2h", "shop=a"], "see `headrace features list`"),
        (["history", "tills", "--from", "2020-01-01", "--to", "2020-01-02"], "it has ['till']"),
        (["history", "till", "shop=a", "till=1", "--from", "2020-01-01", "--to", "2019-01-01"], "wanted 1 to"),
    ],
)
def test_features_commands_say_which_argument_is_wrong(arguments: list[str], said: str) -> None:
    found = run.invoke(build(), ["features", *arguments])
    assert found.exit_code == 2
    assert said in " ".join(found.output.replace("│", " ").split())


def test_features_explain_refuses_a_feature_that_the_view_lacks(project: Project, tmp_path: Path) -> None:
    store: Any = None
    with pytest.raises(DefinitionError, match="has no feature 'x': it has"):
        explain(store, EventLog(tmp_path), project.views["till"].spec, "x", {})
