"""Training sets for people: every row of a spine, in order, as of its time; and once more from the manifest."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import headrace
from headrace import Count, Entity, Event, FeatureService, FeatureView, Lifetime, Settings, Stream
from headrace.bus.duration import moment
from headrace.errors import DefinitionError, NewerFormatError, ProjectError, TerminalError
from headrace.features import spine as spines
from headrace.features.content import content_hash
from headrace.features.log import EventLog
from headrace.models import training_manifest
from headrace.models.manifest import Span, StreamPin
from headrace.models.predictions import PREDICTIONS, VECTORS
from headrace.models.training_manifest import TrainingManifest
from headrace.streams.maintenance import Sizes, compact
from headrace.trainers import historical, rows
from headrace.trainers.model_log import ModelLog
from headrace.trainers.training_set import TrainingSets
from tests.training import (
    DAYS,
    SOURCE,
    START_US,
    Order,
    Return,
    Shop,
    day,
    model,
    orders,
    returns,
    vector,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

AS_OF = moment(day(DAYS + 2))
HALF_HOUR = 1_800_000_000
SERVICE = model.features


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


def settings_of(shop: Shop) -> Settings:
    return Settings(event_log=str(shop.folder / "log"))


def made(shop: Shop, what: Any, spine: Any = None, **options: Any) -> headrace.TrainingSet:
    given: dict[str, Any] = {"as_of": AS_OF, "excluded": []} | options
    return headrace.training_set(what, spine, **given, settings=settings_of(shop))


def spine_of(rows_: int, seed: int = 1) -> pl.DataFrame:
    """Rows in no order, of shops that some are nobody's, with a column of one's own."""
    rng = np.random.default_rng(seed)
    times = rng.integers(day(-1), day(DAYS + 1), rows_)
    times[-1:] = day(DAYS) + HALF_HOUR
    return pl.DataFrame(
        {
            "note": [f"row {row}" for row in range(rows_)],
            "shop": [f"shop-{number}" for number in rng.integers(0, 7, rows_)],
            "at": pl.Series(times).cast(pl.Datetime("us", "UTC")),
        }
    )


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


def test_pieces_change_nothing(shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spine = spine_of(50)
    whole = made(shop, SERVICE, spine)
    wanted = whole.to_polars()
    for module in (spines, rows, historical):
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
    examples = TrainingSets(model, shop.log).build(at_us)
    found = made(shop, model, as_of=moment(at_us))
    frame = found.to_pandas()
    assert len(frame) == len(examples) == found.manifest.rows > 5_000
    for name in ("shop__orders_1d", "amount"):
        assert (frame[name].to_numpy() == examples.frame[name].to_numpy()).all()
    assert found.label_column == "label"
    assert (frame["label"].to_numpy() == examples.label).all()
    assert (found.manifest.rows_from, found.manifest.as_of_us) == ("requests", at_us)


def test_excluded_spans_are_left_out_and_told(shop: Shop) -> None:
    span = Span(from_us=day(10), to_us=day(12), reason="the till was broken")
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
    frame = made(shop, model, spine, as_of=moment(day(20))).to_polars()
    assert frame["label"].to_list() == [shop.returns[3].back, shop.returns[4].back, None, None]
    assert made(shop, replace(model, label=replace(model.label, missing="false")), spine).to_polars()[
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
        at=pl.Series([order.ordered_at, moment(at_us + 1_000)])
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
    early = [Tick("a", moment(day(0) + n * 60_000_000), moment(day(0) + (n - 2) * 60_000_000)) for n in range(3, 9)]
    write(log, ticks, early)
    write(log, returns, [Return(1, back=True, known_at=moment(day(1)))])
    for stream in (VECTORS, PREDICTIONS):
        log.create(stream)
    view = FeatureView("own", Entity("name"), ticks, [Lifetime()], {"n": Count()})
    own = TrainingSets(_of_ticks(view), log)
    spine = own.log.requests().with_columns(
        pl.lit(None, pl.Int64).alias("__served_us"),
        pl.lit(None, pl.String).alias("__offsets"),
        pl.col("at").dt.epoch("us").alias("__requested_us"),
    )
    assert own.features(spine)["own__n_lifetime"].to_list() == [0, 1, 2, 3, 4, 5]
    given = spine.select("name", "at")[::-1]
    settings = Settings(event_log=str(tmp_path / "log"))
    found = headrace.training_set(_of_ticks(view), given, as_of=AS_OF, excluded=[], settings=settings).to_polars()
    assert found["own__n_lifetime"].to_list() == [5, 4, 3, 2, 1, 0]
    moved = given.with_columns(pl.col("at") + timedelta(microseconds=1))
    found = headrace.training_set(_of_ticks(view), moved, as_of=AS_OF, excluded=[], settings=settings).to_polars()
    assert found["own__n_lifetime"].to_list() == [6, 6, 5, 4, 3, 2]


def test_a_request_that_was_not_available_then_is_not_in_the_set(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "log")
    write(log, late_ticks, [Tick("a", moment(day(0)), moment(day(5)))])
    view = FeatureView("own", Entity("name"), late_ticks, [Lifetime()], {"n": Count()})
    known = ModelLog(replace(_of_ticks(view), requests=late_ticks), log)
    assert [known.labelled(day(number)).height for number in (3, 5)] == [0, 1]


late_ticks = Stream("ticks", Tick, event_time="at", available_at="said", tolerance="30d")


def _of_ticks(view: FeatureView) -> Any:
    return replace(
        model,
        requests=ticks,
        key="name",
        at="at",
        features=FeatureService("own", [view]),
        request_features=[],
        label=replace(model.label, source=ticks, on="name", value=headrace.col("name") == "a"),
    )


# -- once more from the manifest -------------------------------------------------------------------------------------


def test_a_set_is_made_again_after_more_came_and_all_was_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = Shop(tmp_path)
    shop.serve(1)
    spine = spine_of(40).with_columns(order_id=pl.int_range(40, dtype=pl.Int64))
    given, own = made(shop, model, spine), made(shop, model)
    kept = given.to_parquet(tmp_path / "given.parquet"), own.to_parquet(tmp_path / "own.parquet")
    last_us = int(shop.orders[-1].ordered_at.timestamp() * 1e6)
    late = [Order(10**6 + n, f"shop-{n % 5}", 1.0, moment(last_us + n)) for n in range(50)]
    write(shop.log, orders, late)
    write(shop.log, returns, [Return(order.order_id, back=True, known_at=moment(day(DAYS) + 1)) for order in late])
    for topic in ("orders", "returns", VECTORS.topic):
        list(compact(shop.log, topic, 1, Sizes(least_files=2)))
        shop.log.table(topic).vacuum(0, dry_run=False, enforce_retention_duration=False)
    project = type("P", (), {"model": staticmethod(lambda _: model), "services": {SERVICE.name: SERVICE}})
    monkeypatch.setattr("headrace.app.training.load_project", lambda _: project)
    again = [headrace.rebuild(tmp_path / name, settings=settings_of(shop)) for name in ("given.parquet", "own.parquet")]
    assert [one.manifest for one in again] == list(kept)
    assert headrace.rebuild(kept[0], spine, settings=settings_of(shop)).manifest == kept[0]
    now = [made(shop, model, spine).manifest, made(shop, model).manifest]
    assert all(one.content_hash != before.content_hash for one, before in zip(now, kept, strict=True))
    with pytest.raises(TerminalError, match=r"this is another spine: sha256:.*; the training set was made for sha256:"):
        headrace.rebuild(kept[0], spine[::-1], settings=settings_of(shop))
    with pytest.raises(TerminalError, match="was made for a spine of 40 rows: give it again"):
        headrace.rebuild(kept[0], settings=settings_of(shop))


def test_other_definitions_are_refused(shop: Shop) -> None:
    told = made(shop, SERVICE, spine_of(3)).manifest
    other = FeatureService(SERVICE.name, [replace(SERVICE.views[0], windows=["2d"])])
    with pytest.raises(TerminalError, match=r"is defined otherwise now, in its views \['shop'\]: take the code"):
        rows.rows_again(told, other, str(shop.folder / "log"))


GOLDEN = (
    b'{"format":1,"of":"service","name":"risk","service":"s","spec_hashes":{"v":"h"},'
    b'"streams":[{"topic":"sales","topic_id":"aa","offsets":{"aa-0":7}}],"rows_from":"spine",'
    b'"row_order":["as given"],"rows":2,"content_hash":"sha256:1","columns":["k","f"],"feature_columns":["f"],'
    b'"time":"at","as_of_us":3,"label":null,"label_column":null,"spine_columns":["k"],"spine_hash":"sha256:2",'
    b'"excluded":[],"libraries":{}}'
)


def test_a_manifest_is_these_bytes() -> None:
    kept = TrainingManifest(
        of="service", name="risk", service="s", spec_hashes={"v": "h"},
        streams=[StreamPin(topic="sales", topic_id="aa", offsets={"aa-0": 7})],
        rows_from="spine", row_order=["as given"], rows=2, content_hash="sha256:1", columns=["k", "f"],
        feature_columns=["f"], time="at", as_of_us=3, spine_columns=["k"], spine_hash="sha256:2",
    )  # fmt: skip
    assert training_manifest.encode(kept) == GOLDEN
    assert training_manifest.decode(GOLDEN) == kept
    with pytest.raises(NewerFormatError):
        training_manifest.decode(GOLDEN.replace(b'"format":1', b'"format":2'))


def test_content_is_told_apart_and_its_hash_stays_what_it_was() -> None:
    frame = pl.DataFrame(
        {
            "n": [1, None, 3], "x": [0.5, None, 0.0], "b": [True, None, False], "s": ["a", None, ""],
            "t": pl.Series([0, None, 5]).cast(pl.Datetime("us", "UTC")), "l": [[1], None, []],
        }
    )  # fmt: skip
    wanted = content_hash([frame])
    assert wanted == content_hash([frame[:1], frame[1:1], frame[1:]])
    assert wanted == "sha256:5eada73ca4e82dd3193b898d36631931d42d2d07dd692e2c02564d57e2dd24fb"
    others = [
        frame.with_columns(pl.col("n").fill_null(0)), frame.with_columns(pl.col("s").fill_null("")), frame[::-1],
        frame.with_columns(s=pl.Series(["", None, "a"])), frame.rename({"n": "m"}), frame.cast({"n": pl.Int32}),
    ]  # fmt: skip
    assert len({wanted, *(content_hash([other]) for other in others)}) == 7


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Decimal(10, 2), [Decimal("1.50"), None, Decimal("-0.01")]),
        (pl.Decimal(38, 0), [Decimal(10**37), None, Decimal(0)]),
        (pl.Int128, [2**100, None, 0]),
        (pl.UInt128, [2**100, None, 0]),
        (pl.UInt64, [2**63 + 1, None, 0]),
        (pl.Float32, [0.5, None, 0.0]),
        (pl.Boolean, [True, None, False]),
        (pl.Date, [date(2020, 1, 1), None, date(1970, 1, 1)]),
        (pl.Time, [time(1), None, time(0)]),
        (pl.Duration("us"), [timedelta(1), None, timedelta(0)]),
        (pl.Binary, [b"a", None, b""]),
        (pl.Categorical, ["a", None, ""]),
        (pl.List(pl.Decimal(10, 2)), [[Decimal("1.50")], None, []]),
        (pl.Struct({"a": pl.Int64}), [{"a": 1}, None, {"a": 0}]),
    ],
)
def test_columns_of_each_type_have_a_hash(dtype: Any, values: list[Any]) -> None:
    frame = pl.DataFrame({"c": pl.Series(values, dtype=dtype)})
    wanted = content_hash([frame])
    assert wanted == content_hash([frame[:1], frame[1:1], frame[1:]])
    others = [
        frame.with_columns(pl.Series("c", [values[0], *rest], dtype=dtype)) for rest in ([values[2]] * 2, [None] * 2)
    ]
    assert len({wanted, *map(content_hash, ([other] for other in others)), content_hash([frame[::-1]])}) == 4


# -- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spine", "options", "said"),
    [
        (pl.DataFrame({"at": [moment(START_US)]}), {}, r"lacks the join keys \['shop'\]; it has \['at'\]"),
        (pl.DataFrame({"shop": [1], "at": [moment(START_US)]}), {}, "join key 'shop' is Int64; .* have it as str"),
        (pl.DataFrame({"shop": ["a"]}), {}, "no one time column: its columns of times are none; say which one by time"),
        (spine_of(1), {"time": "when"}, r"no time column 'when': its columns of times are \['at'\]"),
        (
            spine_of(1).rename({"note": "shop__orders_1d"}),
            {},
            r"columns of the names of features: \['shop__orders_1d'\]",
        ),
    ],
)
def test_a_spine_that_does_not_fit_is_refused(shop: Shop, spine: Any, options: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made(shop, SERVICE, spine, **options)


def test_what_is_no_spine_says_so(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(TerminalError, match="cannot be read as a Parquet file"):
        made(shop, SERVICE, tmp_path / "x.parquet")
    with pytest.raises(TerminalError, match="a spine is a pandas, Polars or Arrow table"):
        made(shop, SERVICE, {"shop": ["a"]})
    with pytest.raises(TerminalError, match=r"no one type each"):
        made(shop, SERVICE, pd.DataFrame({"shop": ["a", 1]}))
    with pytest.raises(DefinitionError, match="has no rows of its own"):
        made(shop, SERVICE)
    with pytest.raises(DefinitionError, match="has no time zone"):
        made(shop, SERVICE, spine_of(1), as_of=datetime(2020, 1, 1))  # noqa: DTZ001 - that is the point
    missing = spine_of(5).with_columns(at=pl.when(pl.col("note") != "row 3").then("at"))
    with pytest.raises(TerminalError, match=r"'at' is missing in 1 rows, the first is row 3"):
        made(shop, SERVICE, missing).to_polars()


def test_a_file_without_a_manifest_says_so(tmp_path: Path) -> None:
    spine_of(3).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(TerminalError, match="has no manifest of a training set"):
        headrace.rebuild(tmp_path / "x.parquet", settings=Settings())


def test_a_failed_write_leaves_no_file(shop: Shop, tmp_path: Path) -> None:
    missing = spine_of(5).with_columns(at=pl.when(pl.col("note") != "row 3").then("at"))
    with pytest.raises(TerminalError):
        made(shop, SERVICE, missing).to_parquet(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_there_says_which_are(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace import Project

    monkeypatch.setattr("headrace.app.training.load_project", lambda _: Project(services={"shops": SERVICE}))
    assert made(shop, "shops", spine_of(2)).manifest.name == "shops"
    with pytest.raises(
        ProjectError, match=r"no model, feature service or view 'shop'; it has the services \['shops'\]"
    ):
        made(shop, "shop", spine_of(2))
    with pytest.raises(ProjectError, match="no model 'shops'"):
        made(shop, "shops")
