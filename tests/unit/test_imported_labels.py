"""A model learns from imported requests and labels as from those of topics, and no import holds labels up."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest

from headrace.base.times import epoch_us
from headrace.bus.source_partition import NO_CLOCK
from headrace.event_log.event_log import EventLog
from headrace.event_log.imports import Imports
from headrace.event_log.maintenance import CompactionSizes, compact
from headrace.features.offline.feature_table import FeatureTable, _reached
from headrace.streams.imports.availability import Availability
from headrace.streams.imports.history_import import HistoryImport, ImportOptions, undo
from headrace.streams.imports.source_file import find_files
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.model_log import ModelLog
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import (
    DAYS,
    LIVE_FROM,
    Shop,
    day,
    made,
    model,
    orders,
    request,
    returns,
    shop,
    vector,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from headrace.bus.event import Event
    from headrace.bus.stream import Stream

pytestmark = pytest.mark.slow
PLACES = ["__topic_id", "__partition", "__offset"]


def load(log: EventLog, folder: Path, stream: Stream, rows: Sequence[Event]) -> None:
    """Import events, each available at its own time, as :func:`write` writes them."""
    folder.mkdir(exist_ok=True)
    file = folder / f"{stream.topic}-{len(rows)}.parquet"
    frame = pl.DataFrame([msgspec.structs.asdict(row) for row in rows], infer_schema_length=None)
    at = pl.col(stream.event_time).dt.convert_time_zone("UTC")
    frame.with_columns(at, at.alias("arrived")).sample(fraction=1, shuffle=True, seed=1).write_parquet(file)
    options = ImportOptions(Availability.of(stream, "arrived"))
    HistoryImport(log, stream, folder / "spool", options, _silent).run(find_files([str(file)]), 0)


@contextmanager
def _silent(_what: str, _total: int) -> Iterator[Callable[[int], None]]:
    yield lambda _: None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shops: one whose events came by topics, one of which all were imported."""
    folder = tmp_path_factory.mktemp("shops")
    Shop(folder / "topics")
    log, (bought, back) = EventLog(folder / "files" / "log"), made()
    load(log, folder / "files", orders, bought)
    load(log, folder / "files", returns, back)
    for stream in (VECTORS, PREDICTIONS):
        log.create(stream)
    return folder


@pytest.mark.parametrize("days", [10, 40, DAYS + 2])
def test_labelled_requests_are_those_of_the_topics(folder: Path, days: int) -> None:
    found = [
        ModelLog(model, EventLog(folder / name / "log")).spine(day(days)).drop(PLACES, strict=False)
        for name in ("topics", "files")
    ]
    assert found[0].height > 1_000
    assert found[0].sort("order_id").equals(found[1].select(found[0].columns).sort("order_id"))


def test_the_first_version_comes_from_history_alone(folder: Path) -> None:
    shop = Shop(folder / "run")
    shop.log = EventLog(folder / "files" / "log")
    ended = shop.runner().run(request("first", day(LIVE_FROM)))
    assert ended.outcome == "published"


def test_labels_mature_by_the_clocks_of_the_topic_if_it_has_rows(tmp_path: Path) -> None:
    log, (bought, back) = EventLog(tmp_path / "log"), made()
    log.create(orders)
    old, new = back[:6_000], back[6_000:8_000]
    load(log, tmp_path, returns, old)
    read = ModelLog(model, log)
    read.labels()
    assert read.labels_clock_us() == epoch_us(old[-1].known_at)
    write(log, returns, new)
    read.labels()
    assert read.labels_clock_us() == epoch_us(new[-1].known_at)
    load(log, tmp_path, returns, back[8_000:])
    read.labels()
    assert read.labels_clock_us() == epoch_us(new[-1].known_at), "later rows of files say nothing of the topic"
    assert bought


@pytest.mark.parametrize("undone", [("orders",), ("returns",), ("orders", "returns"), ("none",)])
@pytest.mark.parametrize("is_compacted", [False, True])
def test_a_reader_forgets_an_import_that_is_undone(
    tmp_path: Path, undone: tuple[str, ...], *, is_compacted: bool
) -> None:
    log, (bought, back) = EventLog(tmp_path / "log"), made()
    for stream, rows in ((orders, bought), (returns, back)):
        write(log, stream, rows[3_000:4_000])
        load(log, tmp_path, stream, rows[:3_000])
    for stream in (VECTORS, PREDICTIONS):
        log.create(stream)
    served = [vector(order, 1.0) for order in bought[2_900:3_100]]
    write(log, VECTORS, served)
    running = ExampleBuilder(model, log)
    before = running.build(day(40))
    assert len(before) > 3_500
    if is_compacted:
        for stream in (orders, returns):
            assert list(compact(log, stream.topic, 0, CompactionSizes(least_files=2)))
    for record in Imports(log).all():
        if record.topic in undone:
            undo(log, record.topic, record.id, 1)
    write(log, orders, bought[4_000:4_100])
    write(log, returns, back[4_000:4_100])
    found, fresh = running.build(day(40)), ExampleBuilder(model, log).build(day(40))
    assert len(found) == len(fresh) == (4_100 if undone == ("none",) else 1_100)
    assert running._history.restarts == int("orders" in undone), "a compaction is no reason to read all again"
    assert found.content_hash() == fresh.content_hash()
    assert found.positions == fresh.positions
    assert running.model_log.labels_clock_us() == epoch_us(back[4_099].known_at)
    assert running.model_log.labels().equals(ModelLog(model, log).labels())


def test_an_import_that_is_all_there_is_leaves_nothing_when_it_is_undone(tmp_path: Path) -> None:
    log, (bought, back) = EventLog(tmp_path / "log"), made()
    load(log, tmp_path, orders, bought[:500])
    load(log, tmp_path, returns, back[:500])
    running = ModelLog(model, log)
    assert running.matured_labels(day(10)) == 500
    for record in Imports(log).all():
        undo(log, record.topic, record.id, 1)
    assert (running.matured_labels(day(10)), running.labels_clock_us()) == (0, NO_CLOCK)
    load(log, tmp_path, orders, bought[:500])
    load(log, tmp_path, returns, back[:500])
    assert running.matured_labels(day(10)) == 500


def test_a_feature_table_is_that_of_the_imports_that_count(tmp_path: Path) -> None:
    log, (bought, _) = EventLog(tmp_path / "log"), made()
    write(log, orders, bought[3_000:4_000])
    table = FeatureTable(shop.spec, log, str(tmp_path / "features"))

    def rows() -> pl.DataFrame:
        table.update()
        return pl.read_delta(table.path).sort("time", "shop")

    alone = rows()
    load(log, tmp_path, orders, bought[:3_000])
    with_history = rows()
    assert with_history.height > alone.height + 50
    assert table.update() == 0
    FeatureTable(shop.spec, log, str(tmp_path / "again")).update()
    assert with_history.equals(pl.read_delta(str(tmp_path / "again" / "shop")).sort("time", "shop"))
    (record,) = Imports(log).all()
    undo(log, "orders", record.id, 1)
    assert rows().equals(alone)
    assert table.update() == 0


def test_a_feature_table_of_an_undone_import_alone_is_empty(tmp_path: Path) -> None:
    log, (bought, _) = EventLog(tmp_path / "log"), made()
    load(log, tmp_path, orders, bought[:1_000])
    table = FeatureTable(shop.spec, log, str(tmp_path / "features"))
    assert table.update() > 0
    before = pl.read_delta(table.path).sort("time", "shop")
    (record,) = Imports(log).all()
    undo(log, "orders", record.id, 1)
    assert [table.update() for _ in range(2)] == [0, 0]
    assert pl.read_delta(table.path).is_empty()
    load(log, tmp_path, orders, bought[:1_000])
    table.update()
    assert pl.read_delta(table.path).sort("time", "shop").equals(before)


def test_a_feature_table_goes_on_beside_a_finished_import(tmp_path: Path) -> None:
    log, (_, back) = EventLog(tmp_path / "log"), made()
    load(log, tmp_path, returns, back[:8_000])
    only = _reached({"returns": log.read("returns")})
    assert only == epoch_us(back[7_999].known_at)
    write(log, returns, back[8_000:])
    assert _reached({"returns": log.read("returns")}) == epoch_us(back[-1].known_at)
