"""Training sets for people: every row of a spine, in order, as of its time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace import Count, Entity, Event, FeatureService, FeatureView, Lifetime, Settings, Stream
from headrace.base.times import utc_datetime
from headrace.event_log.event_log import EventLog
from headrace.features.offline import spine as spines
from headrace.features.offline.content_hash import content_hash
from headrace.models.manifest import TimeSpan
from headrace.trainers.data import request_rows, training_set
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.model_log import ModelLog
from tests.support.control_topics import PREDICTIONS, VECTORS
from tests.support.orders_model import (
    SOURCE,
    Order,
    Return,
    Shop,
    day,
    model,
    returns,
    vector,
    write,
)
from tests.support.training_set_scene import AS_OF, HALF_HOUR, SERVICE, made, spine_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def counted(orders_: list[Order], shop_: str, at_us: int) -> int:
    """The orders of the 48 half hours up to now that were available a millisecond before."""
    newest = at_us // HALF_HOUR
    return sum(
        order.shop == shop_ and newest - 48 < us // HALF_HOUR <= newest and us <= at_us - 1_000
        for order in orders_
        for us in [int(order.ordered_at.timestamp() * 1e6)]
    )


def test_every_row_comes_back_in_order_as_a_loop_counts_it(shop: Shop) -> None:
    spine = spine_of(60)
    found = made(shop, SERVICE, spine)
    frame = found.to_polars()
    assert frame.drop(found.feature_columns).equals(spine)
    wanted = [counted(shop.orders, row["shop"], int(row["at"].timestamp() * 1e6)) for row in spine.to_dicts()]
    assert frame["shop__orders_1d"].to_list() == wanted
    assert found.label_column is None
    assert 0 in wanted
    assert max(wanted) > 20


def test_all_forms_of_a_spine_and_of_the_set_are_the_same(shop: Shop, tmp_path: Path) -> None:
    spine = spine_of(50)
    spine.write_parquet(tmp_path / "spine.parquet")
    forms: list[Any] = [spine, spine.lazy(), spine.to_arrow(), spine.to_pandas(), tmp_path / "spine.parquet"]
    sets = [made(shop, SERVICE, form) for form in forms]
    wanted = sets[0].to_polars()
    for one in sets:
        assert one.to_polars().select("shop", "shop__orders_1d").equals(wanted.select("shop", "shop__orders_1d"))
    assert isinstance(sets[0].to_arrow(), pa.Table)
    assert sets[0].to_pandas()["shop__orders_1d"].tolist() == wanted["shop__orders_1d"].to_list()
    assert sets[4].to_parquet(tmp_path / "set.parquet") == sets[4].manifest
    assert pl.read_parquet(tmp_path / "set.parquet").equals(wanted)
    assert made(shop, model.features.views[0], spine).to_polars().equals(wanted)


def test_a_training_set_made_in_pieces_is_the_same(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spine = spine_of(50)
    whole = made(shop, SERVICE, spine)
    wanted = whole.to_polars()
    for module in (spines, request_rows, training_set):
        monkeypatch.setattr(module, "BATCH_ROWS", 7)
    monkeypatch.setattr(spines.Spine.pieces, "__defaults__", (7,))
    spine.write_parquet(tmp_path / "spine.parquet", row_group_size=9)
    pieces = made(shop, SERVICE, tmp_path / "spine.parquet")
    told = pieces.to_parquet(tmp_path / "set.parquet")
    assert pq.ParquetFile(tmp_path / "set.parquet").num_row_groups == 8
    assert pl.read_parquet(tmp_path / "set.parquet").equals(wanted)
    assert told.content_hash == whole.manifest.content_hash == content_hash([wanted])
    assert told.spine_hash == whole.manifest.spine_hash


def test_an_empty_spine_gives_no_rows_and_all_columns(shop: Shop, tmp_path: Path) -> None:
    found = made(shop, SERVICE, spine_of(0))
    assert found.to_parquet(tmp_path / "none.parquet").rows == 0
    assert pl.read_parquet(tmp_path / "none.parquet").columns == ["note", "shop", "at", "shop__orders_1d"]


def test_a_model_without_a_spine_is_what_its_trainer_sees(shop: Shop) -> None:
    at_us = day(40)
    examples = ExampleBuilder(model, shop.log).build(at_us)
    found = made(shop, model, as_of=utc_datetime(at_us))
    frame = found.to_pandas()
    assert len(frame) == len(examples) == found.manifest.rows > 5_000
    for name in ("shop__orders_1d", "amount"):
        assert (frame[name].to_numpy() == examples.frame[name].to_numpy()).all()
    assert found.label_column == "label"
    assert (frame["label"].to_numpy() == examples.label).all()
    assert (found.manifest.rows_from, found.manifest.as_of_us) == ("requests", at_us)


def test_excluded_spans_are_left_out_and_reported(shop: Shop) -> None:
    span = TimeSpan(from_us=day(10), to_us=day(12), reason="the till was broken")
    found = made(shop, model, excluded=[span])
    times = found.to_polars()["ordered_at"].dt.epoch("us")
    assert not times.is_between(span.from_us, span.to_us, closed="left").any()
    assert found.manifest.excluded == [span]
    assert found.manifest.rows < made(shop, model).manifest.rows


def test_a_label_of_a_spine_row_is_null_until_it_is_matured(shop: Shop) -> None:
    of = [shop.orders[place] for place in (3, 4, 8_000)]
    spine = pl.DataFrame({"order_id": [o.order_id for o in of] + [10**9], "shop": ["shop-1"] * 4}).with_columns(
        at=pl.Series([o.ordered_at for o in of] + [of[0].ordered_at])
    )
    frame = made(shop, model, spine, as_of=utc_datetime(day(20))).to_polars()
    assert frame["label"].to_list() == [shop.returns[3].back, shop.returns[4].back, None, None]
    assert made(shop, replace(model, label=replace(model.label, missing=False)), spine).to_polars()[
        "label"
    ].to_list() == [*(shop.returns[place].back for place in (3, 4, 8_000)), False]
    assert "label" not in made(shop, model, spine.drop("order_id")).to_polars().columns


def test_a_row_that_was_served_has_the_values_that_were_served(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    order = shop.orders[5_000]
    at_us = int(order.ordered_at.timestamp() * 1e6)
    behind = {"shop": {SOURCE.text: 4_000}}
    served = vector(order, 3.0)
    write(shop.log, VECTORS, [type(served)(**_fields(served) | {"offsets": _json(behind)})])
    spine = pl.DataFrame({"order_id": [order.order_id] * 2, "shop": [order.shop] * 2}).with_columns(
        at=pl.Series([order.ordered_at, utc_datetime(at_us + 1_000)])
    )
    frame = made(shop, model, spine).to_polars()
    assert frame["shop__orders_1d"][0] == counted(shop.orders[:4_000], order.shop, at_us)
    assert frame["shop__orders_1d"][1] == counted(shop.orders, order.shop, at_us + 1_000)
    assert frame["shop__orders_1d"][0] != frame["shop__orders_1d"][1]
    own = made(shop, model).to_polars().filter(pl.col("order_id") == order.order_id)
    assert own["shop__orders_1d"].item() == frame["shop__orders_1d"][0]


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Tick(Event):
    """A request that its own view counts, recorded before the time that it names."""

    name: str
    at: datetime
    said: datetime


ticks = Stream("ticks", Tick, event_time="at", available_at="said")


def test_a_row_never_sees_its_own_record(tmp_path: Path) -> None:
    """A record may be available before its own event time: by the delay alone it would count itself."""
    log = EventLog(tmp_path / "log")
    early = [
        Tick("a", utc_datetime(day(0) + n * 60_000_000), utc_datetime(day(0) + (n - 2) * 60_000_000))
        for n in range(3, 9)
    ]
    write(log, ticks, early)
    write(log, returns, [Return(1, back=True, known_at=utc_datetime(day(1)))])
    for stream in (VECTORS, PREDICTIONS):
        log.create(stream)
    view = FeatureView("own", Entity("name"), ticks, [Lifetime()], {"n": Count()})
    own = ExampleBuilder(_of_ticks(view), log)
    spine = own.model_log.requests().with_columns(
        pl.lit(None, pl.Int64).alias("__served_us"),
        pl.lit(None, pl.String).alias("__offsets"),
        pl.col("at").dt.epoch("us").alias("__requested_us"),
    )
    assert own.features(spine, log.snapshot())["own__n_lifetime"].to_list() == [0, 1, 2, 3, 4, 5]
    given = spine.select("name", "at")[::-1]
    settings = Settings(event_log=str(tmp_path / "log"))
    found = headrace.training_set(_of_ticks(view), given, as_of=AS_OF, excluded=[], settings=settings).to_polars()
    assert found["own__n_lifetime"].to_list() == [5, 4, 3, 2, 1, 0]
    moved = given.with_columns(pl.col("at") + timedelta(microseconds=1))
    found = headrace.training_set(_of_ticks(view), moved, as_of=AS_OF, excluded=[], settings=settings).to_polars()
    assert found["own__n_lifetime"].to_list() == [6, 6, 5, 4, 3, 2]


def test_a_request_that_was_not_available_then_is_not_in_the_set(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    write(log, late_ticks, [Tick("a", utc_datetime(day(0)), utc_datetime(day(5)))])
    view = FeatureView("own", Entity("name"), late_ticks, [Lifetime()], {"n": Count()})
    known = ModelLog(replace(_of_ticks(view), requests=late_ticks), log)
    assert [known.labelled(day(number)).height for number in (3, 5)] == [0, 1]


late_ticks = Stream("ticks", Tick, event_time="at", available_at="said", tolerance="30d")


def _of_ticks(view: FeatureView) -> Any:
    return replace(
        model,
        requests=ticks,
        request_key="name",
        requested_at="at",
        features=FeatureService("own", [view]),
        request_features=[],
        label=replace(model.label, stream=ticks, on="name", value=headrace.col("name") == "a"),
    )
