"""Look-ups: what is served, what is known of it, and what an application needs for it."""

from __future__ import annotations

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from headrace.bus.duration import instant
from headrace.bus.event import Event, encode
from headrace.bus.stream import Stream
from headrace.errors import DefinitionError, OnlineStoreUnavailableError
from headrace.features.aggregates import Count, Last, Sum
from headrace.features.definitions import Entity, FeatureService, FeatureView
from headrace.features.memory_store import MemoryOnlineStore
from headrace.features.online import NO_CLOCK, CursorState, OnlineStore, Source
from headrace.features.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient, Features, Status
from headrace.streams.batch import Judge, Records
from headrace.streams.logged_rows import LoggedRows
from headrace.streams.view_partition import ViewPartition
from headrace.streams.worker import publish_definitions

if TYPE_CHECKING:
    from collections.abc import Iterator

START = datetime(2020, 1, 1, tzinfo=UTC)
START_US = instant(START)
MINUTE = 60_000_000


class Sale(Event):
    """A sale at a till of a shop."""

    shop: str
    till: int
    at: datetime
    amount: float | None


sales = Stream("sales", Sale, event_time="at", tolerance="5m")
shops = FeatureView("shop", Entity("shop", str), sales, ["10m"], {"n": Count(), "amount": Sum("amount")}, max_age="30m")
tills = FeatureView(
    "till",
    Entity("till", keys={"shop": str, "till": int}),
    sales,
    ["1h"],
    {"n": Count(), "last": Last("amount")},
    history="1h",
)
risk = FeatureService("risk", [shops, tills])
SOURCES = [Source(partition, bytes([3]) * 16) for partition in range(2)]


class Worker:
    """Folds sales into the store, as a worker does."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._judge = Judge(sales)
        self.views = [[ViewPartition(view.spec, source, store) for view in (shops, tills)] for source in SOURCES]
        publish_definitions(store, [shops, tills], [risk])
        for partition in range(len(SOURCES)):
            self.acquire(partition, b"w" * 16)

    def acquire(self, partition: int, owner: bytes) -> None:
        for view in self.views[partition]:
            view.acquire(owner, len(SOURCES))

    def fold(self, partition: int, *events: Sale, state: CursorState = CursorState.LIVE) -> None:
        """A batch of one partition, recorded a second after each event."""
        for view in self.views[partition]:
            first = view.position
            times = np.array([instant(event.at) + 1_000_000 for event in events], np.int64)
            records = Records(first + np.arange(len(events)), times, [None] * len(events), [encode(e) for e in events])
            rows = self._judge.rows(SOURCES[partition].topic_id, partition, records, NO_CLOCK)
            for write in view.fold(LoggedRows.of(rows, sales.event_time), first + len(events), state):
                assert self._store.write([write]) == [True]
                view.applied(write)


def sale(shop: str, minute: float, amount: float | None = 1.0, till: int = 1) -> Sale:
    return Sale(shop, till, START + timedelta(minutes=minute), amount)


@pytest.fixture(params=["memory", pytest.param("redis", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    if request.param == "memory":
        yield MemoryOnlineStore()
        return
    redis = RedisOnlineStore(request.getfixturevalue("services").redis_url, request.getfixturevalue("namespace"))
    yield redis
    redis.close()


@pytest.fixture
def worker(store: OnlineStore) -> Worker:
    """Both partitions live: a sold for 1 and 2 at minutes 1 and 2, b for nothing known at minute 3."""
    worker = Worker(store)
    worker.fold(0, sale("a", 1, 1.0), sale("b", 3, None))
    worker.fold(1, sale("a", 2, 2.0, till=2))
    return worker


def look_up(store: OnlineStore, *rows: dict[str, Any], minute: float = 4, **options: Any) -> Features:
    return FeatureClient(store, **options).get("risk", list(rows), as_of_us=START_US + round(minute * MINUTE))


A1, A2, B1 = {"shop": "a", "till": 1}, {"shop": "a", "till": 2}, {"shop": "b", "till": 1}


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_values_of_many_rows_come_back_in_order_with_repeats(store: OnlineStore) -> None:
    found = look_up(store, A1, B1, A2, A1, {"shop": "zz", "till": 1, "more": "ignored"})
    assert found.columns == ["shop__n_10m", "shop__amount_10m", "till__n_1h", "till__last_1h"] == risk.columns()
    a1, b1 = [2, 3.0, 1, 1.0], [1, 0.0, 1, None]
    assert found.to_lists() == [a1, b1, [2, 3.0, 1, 2.0], a1, [0, 0.0, 0, None]]
    assert found.to_dicts()[1] == dict(zip(found.columns, b1, strict=True))
    assert found.statuses(1) == {"shop": Status.PRESENT, "till": Status.PRESENT}
    assert found.statuses(4) == {"shop": Status.MISSING, "till": Status.MISSING}
    matrix = found.to_numpy()
    assert matrix.shape == (5, 4)
    assert np.isnan(matrix[1, 3])
    assert found.to_pandas().columns.to_list() == found.columns


@pytest.mark.usefixtures("worker")
def test_one_row_no_row_and_a_row_without_a_key(store: OnlineStore) -> None:
    client, at_us = FeatureClient(store), START_US + 4 * MINUTE
    assert client.get("risk", A1, as_of_us=at_us).to_lists() == [[2, 3.0, 1, 1.0]]
    assert client.get("risk", [], as_of_us=at_us).to_lists() == []
    found = client.get("risk", [{"shop": None, "till": 1}, {"till": 1}, {"shop": "a"}], as_of_us=at_us)
    assert found.to_lists() == [[0, 0.0, 0, None], [0, 0.0, 0, None], [2, 3.0, 0, None]]
    assert found.statuses(2) == {"shop": Status.PRESENT, "till": Status.MISSING}


@pytest.mark.usefixtures("worker")
def test_views_may_be_asked_by_version(store: OnlineStore) -> None:
    found = FeatureClient(store).get([f"till@{tills.version}"], A2, as_of_us=START_US + 4 * MINUTE)
    assert found.to_dicts() == [{"till__n_1h": 1, "till__last_1h": 2.0}]
    assert found.views[0].version == tills.version


@pytest.mark.usefixtures("worker")
def test_v_and_age_of_each_row(store: OnlineStore) -> None:
    found = look_up(store, A1, {"shop": "zz", "till": 1})
    v = {SOURCES[0].text: 2, SOURCES[1].text: 1}
    assert found.offsets(0) == found.offsets(1) == {"shop": v, "till": v}
    assert found.ages_us(0) == {"shop": 2 * MINUTE, "till": 3 * MINUTE}
    assert found.ages_us(1) == {"shop": None, "till": None}


@pytest.mark.usefixtures("worker")
def test_values_age_without_new_events(store: OnlineStore) -> None:
    ns = [look_up(store, A1, minute=minute).to_dicts()[0]["shop__n_10m"] for minute in (4, 10.99, 11.01, 12.01)]
    assert ns == [2, 2, 1, 0]


@pytest.mark.usefixtures("worker")
def test_the_clock_may_be_the_streams(store: OnlineStore) -> None:
    found = FeatureClient(store, clock="stream").get("risk", A1)
    assert found.at_us == START_US + 3 * MINUTE + 1_000_000
    assert FeatureClient(store, clock=lambda: found.at_us + 5).get("risk", A1).at_us == found.at_us + 5


@pytest.mark.usefixtures("worker")
def test_a_clock_behind_the_newest_record_does_not_matter(store: OnlineStore) -> None:
    newest = START_US + 3 * MINUTE + 1_000_000
    behind = FeatureClient(store, clock=lambda: newest - 1).get("risk", A1)
    assert behind.at_us == newest
    assert behind.to_lists() == [[2, 3.0, 1, 1.0]]
    assert behind.statuses() == {"shop": Status.PRESENT, "till": Status.PRESENT}
    strict = FeatureClient(store, clock=lambda: newest).get("risk", A1, as_of_us=newest - 1)
    assert (strict.at_us, strict.statuses()["shop"]) == (newest - 1, Status.OUT_OF_RANGE)


# -- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_a_time_before_the_clock_and_the_history_is_out_of_range_and_has_no_value(store: OnlineStore) -> None:
    found = look_up(store, A1, minute=2.5)
    assert found.statuses() == {"shop": Status.OUT_OF_RANGE, "till": Status.PRESENT}
    assert found.to_lists() == [[None, None, 1, 1.0]]


@pytest.mark.usefixtures("worker")
def test_an_old_newest_event_is_stale_where_the_view_says_so(store: OnlineStore) -> None:
    assert look_up(store, A1, minute=32.0).statuses() == {"shop": Status.PRESENT, "till": Status.PRESENT}
    assert look_up(store, A1, minute=32.1).statuses() == {"shop": Status.STALE, "till": Status.PRESENT}


@pytest.mark.usefixtures("worker")
def test_without_a_sign_of_life_everything_is_stale(store: OnlineStore) -> None:
    time.sleep(0.02)
    found = look_up(store, A1, {"shop": "zz", "till": 1}, heartbeat_bound_us=10_000)
    assert {*found.statuses(0).values(), *found.statuses(1).values()} == {Status.STALE}


def test_one_partition_without_a_sign_of_life_is_enough(store: OnlineStore, worker: Worker) -> None:
    time.sleep(0.05)
    worker.fold(0, sale("a", 3.5))
    assert look_up(store, A1, heartbeat_bound_us=45_000).statuses()["shop"] is Status.STALE


def test_a_missing_cursor_is_rebuilding(store: OnlineStore) -> None:
    worker = Worker(store)
    assert look_up(store, A1).statuses()["shop"] is Status.REBUILDING
    worker.fold(0, sale("a", 1))
    assert look_up(store, A1).statuses()["shop"] is Status.REBUILDING
    worker.fold(1)
    assert look_up(store, A1).statuses()["shop"] is Status.PRESENT


def test_a_partition_that_catches_up_is_rebuilding(store: OnlineStore, worker: Worker) -> None:
    worker.fold(1, sale("a", 3), state=CursorState.REBUILDING)
    assert look_up(store, A1).statuses() == {"shop": Status.REBUILDING, "till": Status.REBUILDING}
    worker.fold(1)
    assert look_up(store, A1).statuses()["shop"] is Status.PRESENT


def test_the_stream_clock_of_an_empty_store_is_the_epoch(store: OnlineStore) -> None:
    Worker(store)
    assert FeatureClient(store, clock="stream").get("risk", A1).at_us == 0


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_unknown_service_or_view_says_what_to_do(store: OnlineStore) -> None:
    with pytest.raises(DefinitionError, match="'nothing' in the online store: has a worker"):
        FeatureClient(store).get("nothing", A1)
    with pytest.raises(DefinitionError, match="'shop@0' in the online store: has a worker"):
        FeatureClient(store).get(["shop@0"], A1)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("row", [{"shop": 7, "till": 1}, {"shop": "a", "till": "1"}, {"shop": "a", "till": 1.0}])
def test_a_key_of_the_wrong_type_is_refused(store: OnlineStore, row: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="join key value"):
        look_up(store, row)


def test_definitions_that_were_lost_are_remembered() -> None:
    memory = MemoryOnlineStore()
    Worker(memory)
    client = FeatureClient(memory)
    client.get("risk", A1)
    memory.clear()
    assert client.get("risk", A1).statuses()["shop"] is Status.REBUILDING


def test_a_store_that_does_not_answer_is_a_typed_error() -> None:
    client = FeatureClient.from_url("redis://127.0.0.1:1/0")
    with pytest.raises(OnlineStoreUnavailableError):
        client.get("risk", A1)


# -- what an application needs ----------------------------------------------------------------------------------------

HEAVY = ["feast", "mlflow", "faust", "sklearn", "pandas", "pyarrow", "polars", "deltalake", "skops", "confluent_kafka"]
PROBE = f"""
import sys
import {{module}}
print(sorted(set({HEAVY}) & set(sys.modules)))
"""


@pytest.mark.parametrize("module", ["headrace", "headrace.serving", "headrace.serving.features"])
def test_importing_it_needs_nothing_heavy(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(module=module)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


CORE_ONLY = f"""
import sys
for name in {HEAVY}:
    sys.modules[name] = None  # an import of it fails, as where it is not installed
from headrace.serving.features import FeatureClient
client = FeatureClient.from_url(sys.argv[1], sys.argv[2], heartbeat_bound_us=600_000_000)
found = client.get("risk", {{"shop": "a", "till": 1}}, as_of_us=int(sys.argv[3]))
print(found.to_lists(), found.statuses(), found.to_numpy().shape)
"""


@pytest.mark.integration
def test_a_look_up_needs_the_core_alone(services: Any, namespace: str) -> None:
    store = RedisOnlineStore(services.redis_url, namespace)
    worker = Worker(store)
    worker.fold(0, sale("a", 1))
    worker.fold(1)
    arguments = [services.redis_url, namespace, str(START_US + 4 * MINUTE)]
    done = subprocess.run([sys.executable, "-c", CORE_ONLY, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[[1, 1.0, 1, 1.0]]")
    assert "present" in done.stdout
    store.close()
