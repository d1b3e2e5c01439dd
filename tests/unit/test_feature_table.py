"""Tables of feature values: what a training set says, on a grid, once a time, by whoever comes first."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from prometheus_client import generate_latest

from headrace import Count, Entity, Event, FeatureView, Project, Settings, Stream
from headrace.app.processes.scheduled_jobs import scheduled_jobs
from headrace.base.times import SettableClock, utc_datetime, wall_clock
from headrace.bus.source_partition import SourcePartition
from headrace.errors import FencedError
from headrace.event_log.event_log import EventLog
from headrace.features.offline import feature_table
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.offline.feature_table import MARGIN_US, FeatureTable, step_us
from headrace.streams import upkeep
from headrace.streams.metrics import WorkerMetrics
from headrace.streams.upkeep import LogUpkeep, ScheduledJob, ScheduledJobs, UpkeepSchedule
from headrace.trainers.triggers.evidence import DAY_US
from tests.support.control_topics import VECTORS
from tests.support.orders_model import SOURCE, Order, Shop, day, made, model, orders, shop, write

if TYPE_CHECKING:
    from pathlib import Path

SPEC = shop.spec


def first(log: EventLog, count: int, start: int = 0) -> list[Order]:
    chosen = made()[0][start:count]
    write(log, orders, chosen)
    return chosen


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "log")


def table(log: EventLog, tmp_path: Path, spec: Any = SPEC) -> FeatureTable:
    return FeatureTable(spec, log, str(tmp_path / "features"))


def read(tmp_path: Path) -> pl.DataFrame:
    """As any tool would: the Parquet files that are in the table."""
    return pl.read_delta(str(tmp_path / "features" / "shop")).sort("time", "shop")


def grid(chosen: list[Order]) -> list[tuple[str, int]]:
    """Of each order the next whole day, if it is known by then and the log has come so far: a loop."""
    times = [int(order.ordered_at.timestamp() * 1e6) for order in chosen]
    newest = (max(times) - MARGIN_US) // DAY_US
    found = {(-(-us // DAY_US), order.shop) for us, order in zip(times, chosen, strict=True) if us % DAY_US}
    known = {(place, name) for place, name in found if place <= newest}
    return [(name, place * DAY_US) for place, name in sorted(known)]


def test_each_time_of_a_feature_table_has_its_shops_with_the_values_of_a_training_set(
    log: EventLog, tmp_path: Path
) -> None:
    chosen = first(log, 2_000)
    rows = table(log, tmp_path).update()
    found = read(tmp_path)
    assert found.columns == ["shop", "time", "shop__orders_1d"]
    places = list(zip(found["shop"], found["time"].dt.epoch("us"), strict=True))
    assert (places, rows) == (grid(chosen), len(places))
    assert rows == 5 * 13
    history = FeatureHistory([SPEC], log)
    history.refresh()
    again = history.features(found.select("shop"), found["time"].dt.epoch("us").to_numpy())
    assert found["shop__orders_1d"].equals(again["shop__orders_1d"])
    assert found["shop__orders_1d"].sum() > 1_500


def test_a_feature_table_goes_on_where_the_last_one_stopped_and_in_pieces(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_table, "PIECE_ROWS", 12)
    first(log, 900)
    assert table(log, tmp_path).update() == 5 * 5
    assert table(log, tmp_path).update() == 0
    first(log, 2_000, 900)
    assert table(log, tmp_path).update() == 5 * 8
    in_steps = read(tmp_path)
    table(log, tmp_path / "other").update()
    assert in_steps.equals(read(tmp_path / "other"))


OTHER = SourcePartition(1, SOURCE.topic_id)
HOURLY = replace(shop, windows=["1h", "3h"]).spec


def fill(log: EventLog, source: SourcePartition, start: float, end: float) -> None:
    """The orders of some days, of which each partition has every other one."""
    chosen = [order for order in made()[0] if day(start) <= int(order.ordered_at.timestamp() * 1e6) < day(end)]
    write(log, orders, chosen[source.partition :: 2], source)


def test_a_partition_that_lags_behind_loses_no_rows(log: EventLog, tmp_path: Path) -> None:
    fill(log, SOURCE, 0, 3)
    fill(log, OTHER, 0, 2.5)
    table(log, tmp_path, HOURLY).update()
    assert day(2.4) < read(tmp_path)["time"].dt.epoch("us").to_numpy().max() <= day(2.5)
    fill(log, OTHER, 2.5, 3.1)
    fill(log, SOURCE, 3, 3.1)
    table(log, tmp_path, HOURLY).update()
    table(log, tmp_path / "other", HOURLY).update()
    assert read(tmp_path).equals(read(tmp_path / "other"))


def test_a_partition_that_is_silent_for_a_day_holds_nothing_up(log: EventLog, tmp_path: Path) -> None:
    fill(log, SOURCE, 0, 3)
    fill(log, OTHER, 0, 1.9)
    for _ in range(2):
        table(log, tmp_path, HOURLY).update()
        assert read(tmp_path)["time"].dt.epoch("us").to_numpy().max() > day(2.9)
    fill(log, OTHER, 3, 3.1)
    fill(log, SOURCE, 3, 3.1)
    table(log, tmp_path, HOURLY).update()
    assert read(tmp_path)["time"].dt.epoch("us").to_numpy().max() > day(3)


def test_files_of_before_the_longest_window_are_not_read_and_none_twice(
    log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first(log, 900)
    before = max((tmp_path / "log" / "orders").glob("*.parquet"), key=lambda path: path.stat().st_size)
    first(log, 2_000, 900)
    table(log, tmp_path).update()
    first(log, 3_000, 2_000)
    table(log, tmp_path / "other").update()
    before.write_bytes(b"no Parquet")
    looks, select = [], EventLog.select

    def look(*args: Any) -> pl.DataFrame:
        looks.append(args)
        return select(*args)

    monkeypatch.setattr(EventLog, "select", look)
    monkeypatch.setattr(EventLog, "reader", None)
    assert table(log, tmp_path).update() > 25
    assert len(looks) == 1
    assert read(tmp_path).equals(read(tmp_path / "other"))


def test_a_changed_view_is_made_anew_and_so_is_the_one_that_comes_back(log: EventLog, tmp_path: Path) -> None:
    first(log, 900)
    table(log, tmp_path).update()
    wider = replace(shop, windows=["1d", "2d"]).spec
    assert table(log, tmp_path, wider).update() == 25
    assert read(tmp_path).columns == ["shop", "time", "shop__orders_1d", "shop__orders_2d"]
    assert table(log, tmp_path).update() == 25
    assert read(tmp_path).columns == ["shop", "time", "shop__orders_1d"]


def test_one_of_two_leaders_is_refused(log: EventLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first(log, 900)
    table(log, tmp_path).update()
    first(log, 2_000, 900)
    late, values = table(log, tmp_path), FeatureTable._values

    def slow(self: FeatureTable, *args: Any) -> pl.DataFrame:
        monkeypatch.setattr(FeatureTable, "_values", values)
        assert table(log, tmp_path).update() == 40
        return values(self, *args)

    monkeypatch.setattr(FeatureTable, "_values", slow)
    with pytest.raises(FencedError, match="another process writes it"):
        late.update()
    assert read(tmp_path).height == read(tmp_path).unique().height == 65


class Known(Event):
    """An event that says when it became known."""

    shop: str
    at: datetime
    said: datetime


def test_a_late_event_makes_no_row_before_its_own_time(log: EventLog, tmp_path: Path) -> None:
    stream = Stream("known", Known, event_time="at", available_at="said", tolerance="30d")
    view = FeatureView("shop", Entity("shop"), stream, ["1d"], {"n": Count()})
    times = [("a", 0.5, 0.5), ("b", 0.6, 1.5), ("a", 3.0, 3.1)]
    write(log, stream, [Known(name, utc_datetime(day(at)), utc_datetime(day(said))) for name, at, said in times])
    table(log, tmp_path, view.spec).update()
    assert read(tmp_path).rows() == [("a", utc_datetime(day(1)), 1)]


def test_an_empty_log_makes_no_table(log: EventLog, tmp_path: Path) -> None:
    log.create(orders)
    assert table(log, tmp_path).update() == 0
    assert not (tmp_path / "features").exists()


@pytest.mark.parametrize(("windows", "step"), [(["10s", "1h"], "1m"), (["3h", "1d"], "3h"), (["7d"], "1d")])
def test_the_step_is_the_shortest_window_within_reason(windows: list[str], step: str) -> None:
    from headrace.base.times import duration_us

    assert step_us(replace(shop, windows=windows).spec) == duration_us(step)


# -- on a schedule ---------------------------------------------------------------------------------------------------


def test_the_leader_keeps_tables_and_audits_and_tells_the_metrics(tmp_path: Path) -> None:
    scene = Shop(tmp_path)
    scene.serve(1, until=31)
    settings = Settings(
        event_log=str(tmp_path / "log"),
        feature_tables=str(tmp_path / "features"),
        audit_interval="800d",
        feature_tables_interval="1h",
    )
    found = scheduled_jobs(settings, Project(models={"returns": model}, views={"shop": shop}))
    assert [(job.name, job.topic) for job in found] == [("audit returns", VECTORS.topic), ("table shop", "orders")]
    metrics = WorkerMetrics()
    clock = SettableClock(utc_datetime(day(90)))
    running = ScheduledJobs(found, lambda _: True, clock, lambda job, found: metrics.job(job.name, found))
    clock.now = utc_datetime(day(900))
    running.step()
    told = generate_latest(metrics.registry).decode()
    assert 'headrace_job{found="mismatched",job="audit returns"} 150.0' in told
    assert f'headrace_job{{found="rows",job="table shop"}} {float(read(tmp_path).height)}' in told
    assert read(tmp_path).height > 200


def test_a_job_runs_on_the_leader_at_its_time_and_may_fail() -> None:
    ran: list[str] = []

    def does(name: str) -> dict[str, float]:
        ran.append(name)
        if name == "b":
            raise FencedError("another one did it")
        return {"x": 1.0}

    clock, leads = SettableClock(utc_datetime(day(0))), {"mine", "too"}
    told = [
        ScheduledJob("a", "mine", timedelta(hours=1), partial(does, "a")),
        ScheduledJob("b", "too", timedelta(hours=2), partial(does, "b")),
        ScheduledJob("c", "not mine", timedelta(hours=1), partial(does, "c")),
    ]
    reported: list[Any] = []
    running = ScheduledJobs(told, leads.__contains__, clock, lambda job, found: reported.append((job.name, found)))
    running.step()
    assert ran == []
    clock.now += timedelta(hours=1)
    running.step()
    running.step()
    assert (ran, reported) == (["a"], [("a", {"x": 1.0})])
    clock.now += timedelta(hours=1)
    running.step()
    assert (ran, len(reported)) == (["a", "a", "b"], 2)


def test_a_stop_does_not_wait_for_a_job(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_S", 0.01)
    monkeypatch.setattr(upkeep, "STOP_S", 0.1)
    began, end = threading.Event(), threading.Event()

    def long() -> dict[str, float]:
        began.set()
        end.wait(10)
        return {}

    job = ScheduledJob("long", "mine", timedelta(0), long)
    with LogUpkeep(log, [], lambda _: True, UpkeepSchedule(), wall_clock, jobs=[job]):
        assert began.wait(10)
    threads = [thread for thread in threading.enumerate() if thread.name == "headrace-jobs"]
    assert [(thread.is_alive(), thread.daemon) for thread in threads] == [(True, True)]
    end.set()
    threads[0].join(10)
    assert not threads[0].is_alive()


@pytest.mark.parametrize("changes", [{"clock": "control", "audit_interval": "1d", "feature_tables_interval": "1h"}, {}])
def test_a_worker_has_no_jobs_in_a_replay_or_when_they_are_off(changes: dict[str, Any]) -> None:
    assert scheduled_jobs(Settings(**changes), Project(models={"returns": model}, views={"shop": shop})) == []
