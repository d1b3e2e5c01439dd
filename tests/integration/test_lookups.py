"""Look-ups: what is served and what is known of it, on every store, by both clients."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from headrace.base.times import epoch_us, utc_datetime
from headrace.errors import DefinitionError, TerminalError
from headrace.features.online.cursor import CursorState
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.serving.features import FeatureVectors, Status
from tests.support.lookups_scene import (
    A1,
    A2,
    B1,
    MINUTE,
    SOURCES,
    START,
    START_US,
    Awaited,
    Waiting,
    Worker,
    filled,
    risk,
    sale,
    shops,
    tills,
)
from tests.support.online_stores import KINDS, opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.features.definitions.view import FeatureView
    from headrace.features.online.store import OnlineStore

Make = Callable[..., Waiting | Awaited]


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest) -> Iterator[OnlineStore]:
    yield from opened(request)


@pytest.fixture(params=[Waiting, Awaited])
def client(request: pytest.FixtureRequest, store: OnlineStore, namespace: str) -> Make:
    """Makes a client of the store, with options."""
    return partial(request.param, store, namespace)


@pytest.fixture
def worker(store: OnlineStore) -> Worker:
    return filled(store)


def look_up(client: Make, *rows: dict[str, Any], minute: float = 4, **options: Any) -> FeatureVectors:
    return client(**options).get("risk", list(rows), as_of=utc_datetime(START_US + round(minute * MINUTE)))


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_values_of_many_rows_come_back_in_order_with_repeats(client: Make) -> None:
    found = look_up(client, A1, B1, A2, A1, {"shop": "zz", "till": 1, "more": "ignored"})
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
def test_one_row_no_row_and_a_row_without_a_key(client: Make) -> None:
    own, at_us = client(), START_US + 4 * MINUTE
    assert own.get("risk", A1, as_of=utc_datetime(at_us)).to_lists() == [[2, 3.0, 1, 1.0]]
    assert own.get("risk", [], as_of=utc_datetime(at_us)).to_lists() == []
    found = own.get("risk", [{"shop": None, "till": 1}, {"till": 1}, {"shop": "a"}], as_of=utc_datetime(at_us))
    assert found.to_lists() == [[0, 0.0, 0, None], [0, 0.0, 0, None], [2, 3.0, 0, None]]
    assert found.statuses(2) == {"shop": Status.PRESENT, "till": Status.MISSING}


@pytest.mark.usefixtures("worker")
def test_views_may_be_asked_by_version(client: Make) -> None:
    found = client().get_views(f"till@{tills.version}", A2, as_of=utc_datetime(START_US + 4 * MINUTE))
    assert found.to_dicts() == [{"till__n_1h": 1, "till__last_1h": 2.0}]
    assert found.views[0].version == tills.version


@pytest.mark.usefixtures("worker")
def test_offsets_and_age_belong_to_each_row(client: Make) -> None:
    found = look_up(client, A1, {"shop": "zz", "till": 1})
    v = {SOURCES[0].text: 2, SOURCES[1].text: 1}
    assert found.offsets(0) == found.offsets(1) == {"shop": v, "till": v}
    assert found.ages(0) == {"shop": timedelta(minutes=2), "till": timedelta(minutes=3)}
    assert found.ages(1) == {"shop": None, "till": None}


@pytest.mark.usefixtures("worker")
def test_a_view_is_looked_up_by_its_name(client: Make) -> None:
    own, at = client(), utc_datetime(START_US + 4 * MINUTE)
    assert own.get_views("till", A2, as_of=at).to_dicts() == [{"till__n_1h": 1, "till__last_1h": 2.0}]
    both = own.get_views([f"till@{tills.version}", "shop"], [A2, B1], as_of=at)
    assert [(view.view, view.version) for view in both.views] == [("till", tills.version), ("shop", shops.version)]
    assert both.to_lists() == [[1, 2.0, 2, 3.0], [1, None, 1, 0.0]]
    assert own.get_views([], [A1], as_of=at).to_lists() == [[]]


@pytest.mark.usefixtures("worker")
def test_an_answer_of_many_rows_wants_the_row(client: Make) -> None:
    found = look_up(client, A1, B1)
    for method in (found.statuses, found.ages, found.offsets):
        with pytest.raises(TerminalError, match=r"has 2 rows: name the row, such as \w+\(0\)"):
            method()
    with pytest.raises(TerminalError, match="has 0 rows"):
        look_up(client).statuses()


@pytest.mark.usefixtures("worker")
def test_values_age_without_new_events(client: Make) -> None:
    ns = [look_up(client, A1, minute=minute).to_dicts()[0]["shop__n_10m"] for minute in (4, 10.99, 11.01, 12.01)]
    assert ns == [2, 2, 1, 0]


@pytest.mark.usefixtures("worker")
def test_the_clock_may_be_the_streams(client: Make) -> None:
    found = client(clock="stream").get("risk", A1)
    at_us = epoch_us(found.at)
    assert at_us == START_US + 3 * MINUTE + 1_000_000
    assert client(clock=lambda: at_us + 5).get("risk", A1).at == utc_datetime(at_us + 5)


@pytest.mark.usefixtures("worker")
def test_a_clock_behind_the_newest_record_does_not_matter(client: Make) -> None:
    newest = START_US + 3 * MINUTE + 1_000_000
    behind = client(clock=lambda: newest - 1).get("risk", A1)
    assert behind.at == utc_datetime(newest)
    assert behind.to_lists() == [[2, 3.0, 1, 1.0]]
    assert behind.statuses() == {"shop": Status.PRESENT, "till": Status.PRESENT}
    strict = client(clock=lambda: newest).get("risk", A1, as_of=utc_datetime(newest - 1))
    assert (strict.at, strict.statuses()["shop"]) == (utc_datetime(newest - 1), Status.OUT_OF_RANGE)


# -- statuses ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("worker")
def test_a_time_before_the_clock_and_the_history_is_out_of_range_and_has_no_value(client: Make) -> None:
    found = look_up(client, A1, minute=2.5)
    assert found.statuses() == {"shop": Status.OUT_OF_RANGE, "till": Status.PRESENT}
    assert found.to_lists() == [[None, None, 1, 1.0]]


@pytest.mark.usefixtures("worker")
def test_an_old_newest_event_is_stale_where_the_view_says_so(client: Make) -> None:
    assert look_up(client, A1, minute=32.0).statuses() == {"shop": Status.PRESENT, "till": Status.PRESENT}
    assert look_up(client, A1, minute=32.1).statuses() == {"shop": Status.STALE, "till": Status.PRESENT}


@pytest.mark.usefixtures("worker")
def test_without_a_sign_of_life_everything_is_stale(client: Make) -> None:
    time.sleep(0.02)
    found = look_up(client, A1, {"shop": "zz", "till": 1}, heartbeat_bound="10ms")
    assert {*found.statuses(0).values(), *found.statuses(1).values()} == {Status.STALE}


def test_one_partition_without_a_sign_of_life_is_enough(client: Make, worker: Worker) -> None:
    time.sleep(0.05)
    worker.fold(0, sale("a", 3.5))
    assert look_up(client, A1, heartbeat_bound="45ms").statuses()["shop"] is Status.STALE


def test_a_missing_cursor_is_rebuilding(store: OnlineStore, client: Make) -> None:
    worker = Worker(store)
    assert look_up(client, A1).statuses()["shop"] is Status.REBUILDING
    worker.fold(0, sale("a", 1))
    assert look_up(client, A1).statuses()["shop"] is Status.REBUILDING
    worker.fold(1)
    assert look_up(client, A1).statuses()["shop"] is Status.PRESENT


def test_a_partition_that_catches_up_is_rebuilding(client: Make, worker: Worker) -> None:
    worker.fold(1, sale("a", 3), state=CursorState.REBUILDING)
    assert look_up(client, A1).statuses() == {"shop": Status.REBUILDING, "till": Status.REBUILDING}
    worker.fold(1)
    assert look_up(client, A1).statuses()["shop"] is Status.PRESENT


def test_the_stream_clock_of_an_empty_store_is_the_epoch(store: OnlineStore, client: Make) -> None:
    Worker(store)
    assert client(clock="stream").get("risk", A1).at == utc_datetime(0)


# -- errors -----------------------------------------------------------------------------------------------------------


def test_an_unknown_service_or_view_says_what_to_do(client: Make) -> None:
    with pytest.raises(DefinitionError, match="'nothing' in the online store: has a worker"):
        client().get("nothing", A1)
    with pytest.raises(DefinitionError, match="'shop@0' in the online store: has a worker"):
        client().get_views("shop@0", A1)
    with pytest.raises(DefinitionError, match="'nothing' in the online store: has a worker"):
        client().get_views(["nothing"], A1)
    with pytest.raises(DefinitionError, match="look views up with get_views"):
        client().get(["shop"], A1)
    with pytest.raises(DefinitionError, match="has no time zone"):
        client().get("risk", A1, as_of=START.replace(tzinfo=None))


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("row", [{"shop": 7, "till": 1}, {"shop": "a", "till": "1"}, {"shop": "a", "till": 1.0}])
def test_a_key_of_the_wrong_type_is_refused(client: Make, row: dict[str, Any]) -> None:
    with pytest.raises(DefinitionError, match="join key value"):
        look_up(client, row)


# -- round trips ------------------------------------------------------------------------------------------------------


class Counted:
    """A store that counts what it is asked."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self._url = getattr(store, "_url", None)
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*asked: Any) -> Any:
            self.calls.append(name)
            return getattr(self._store, name)(*asked)

        return call


def other(store: OnlineStore, *views: FeatureView) -> None:
    """The service goes over to other views."""
    store.put_document("service:risk", {"views": [[view.name, view.version] for view in views]})


def test_a_service_that_has_other_views_is_noticed_by_the_next_look_up(
    store: OnlineStore, client: Make, worker: Worker
) -> None:
    own = client()
    assert own.get("risk", A1).columns == risk.columns()
    other(store, tills)
    assert own.get("risk", A1).columns == ["till__n_1h", "till__last_1h"]
    other(store, tills, shops)
    assert len(own.get("risk", A1).views) == 2
    store.remove_documents(["service:risk"])
    assert len(own.get("risk", A1).views) == 2
    other(store, tills)
    assert len(own.get("risk", A1).views) == 1


def test_a_known_service_costs_one_round_trip_and_one_that_changed_one_more() -> None:
    memory = MemoryOnlineStore()
    filled(memory)
    counted = Counted(memory)
    own = Waiting(cast("OnlineStore", counted), "")
    own.get("risk", A1)
    counted.calls.clear()
    own.get("risk", A1)
    assert counted.calls == ["look_up_with"]
    other(memory, tills)
    own.get("risk", A1)
    assert counted.calls == ["look_up_with"] * 2 + ["look_up"]


def test_another_version_of_a_view_is_noticed_by_the_next_look_up_of_its_name(
    store: OnlineStore, client: Make, worker: Worker
) -> None:
    own = client()
    assert own.get_views(["till", "shop"], A1).columns == ["till__n_1h", "till__last_1h", *risk.columns()[:2]]
    store.put_document("view:till", {"view": "till", "views": [["shop", shops.version]]})
    assert own.get_views(["till", "shop"], A1).columns == risk.columns()[:2] * 2
    store.remove_documents(["view:till"])
    assert own.get_views(["till", "shop"], A1).columns == risk.columns()[:2] * 2


def test_known_views_cost_one_round_trip() -> None:
    memory = MemoryOnlineStore()
    filled(memory)
    counted = Counted(memory)
    own = Waiting(cast("OnlineStore", counted), "")
    own.get_views(["till", "shop"], A1)
    assert counted.calls == ["get_documents", "get_documents", "look_up"]
    counted.calls.clear()
    own.get_views(["till", "shop"], A1)
    own.get_views(f"till@{tills.version}", A1)
    assert counted.calls == ["look_up_with", "look_up"]


def test_a_service_is_remembered_as_long_as_it_may_be(store: OnlineStore, client: Make, worker: Worker) -> None:
    now = [0.0]
    own = client(service_cache="500ms", monotonic=lambda: now[0])
    own.get("risk", A1)
    other(store, tills)
    now[0] = 0.499
    assert len(own.get("risk", A1).views) == 2
    now[0] = 0.501
    assert len(own.get("risk", A1).views) == 1


# -- cached answers ---------------------------------------------------------------------------------------------------


class Cached:
    """A client that may use answers for a second, by a clock that stands until it is set."""

    def __init__(self, client: Make, **options: Any) -> None:
        self.now_s = 100.0
        self._client = client(cache="1s", monotonic=lambda: self.now_s, **options)

    def get(self, *rows: dict[str, Any], minute: float = 4) -> FeatureVectors:
        return self._client.get("risk", list(rows), as_of=utc_datetime(START_US + round(minute * MINUTE)))


def test_a_cached_answer_is_evaluated_at_t_and_says_v_and_age_as_they_are(client: Make, worker: Worker) -> None:
    cached = Cached(client)
    first = cached.get(A1)
    worker.fold(0, sale("a", 3.5, 10.0))
    cached.now_s += 0.999
    later = cached.get(A1, A2, minute=11.5)
    assert first.to_lists() == [[2, 3.0, 1, 1.0]]
    assert later.to_lists()[0] == [1, 2.0, 1, 1.0]  # what was sold at minute 1 is out of the window, 3.5 not seen yet
    assert later.ages(0) == {"shop": timedelta(minutes=9.5), "till": timedelta(minutes=10.5)}
    assert later.offsets(0) == first.offsets(0)
    assert later.offsets(1)["till"] == {SOURCES[0].text: 3, SOURCES[1].text: 1}  # it was not known, and is read now
    cached.now_s += 0.002
    assert cached.get(A1, A2, minute=11.5).to_lists()[0] == [2, 12.0, 2, 10.0]


def test_rows_that_are_known_and_rows_that_are_not_come_back_in_order(client: Make, worker: Worker) -> None:
    cached, plain = Cached(client), client()
    cached.get(A1)
    rows: list[dict[str, Any]] = [B1, A1, {"shop": None, "till": 1}, A2, B1, {"shop": "zz", "till": 1}, A1]
    for _ in range(2):
        found, wanted = cached.get(*rows), plain.get("risk", rows, as_of=utc_datetime(START_US + 4 * MINUTE))
        assert found.to_lists() == wanted.to_lists()
        for row in range(len(rows)):
            assert found.statuses(row) == wanted.statuses(row)
            assert found.ages(row) == wanted.ages(row)
            assert found.offsets(row) == wanted.offsets(row)


def test_a_heartbeat_ages_while_an_answer_is_cached(client: Make, worker: Worker) -> None:
    cached = Cached(client, heartbeat_bound="900ms")
    assert cached.get(A1).statuses()["shop"] is Status.PRESENT
    cached.now_s += 0.95
    found = cached.get(A1, B1)
    assert found.statuses(0)["shop"] is Status.STALE
    assert found.statuses(1)["till"] is Status.PRESENT  # it was just read


def test_a_rebuild_and_other_views_are_seen_once_the_answer_is_too_old(
    store: OnlineStore, client: Make, worker: Worker
) -> None:
    cached = Cached(client)
    cached.get(A1)
    worker.fold(1, sale("a", 3), state=CursorState.REBUILDING)
    other(store, tills)
    assert cached.get(A1).statuses() == {"shop": Status.PRESENT, "till": Status.PRESENT}
    cached.now_s += 1.0
    assert cached.get(A1).statuses() == {"till": Status.REBUILDING}


def test_a_cached_answer_costs_no_round_trip_and_the_oldest_go_first() -> None:
    memory = MemoryOnlineStore()
    filled(memory)
    counted = Counted(memory)
    cached = Cached(partial(Waiting, cast("OnlineStore", counted), ""), cache_entries=4)
    for row in (A1, A2, B1):  # two views each, but shop a is known
        cached.get(row)
    counted.calls.clear()
    cached.get(B1)
    assert counted.calls == []
    cached.get(A1)  # shop a went
    assert counted.calls == ["look_up"]
    cached.get(A2)
    assert counted.calls == ["look_up"]
