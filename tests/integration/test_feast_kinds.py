"""Texts, times and dates through Feast: online, in training sets, and read by an on-demand feature."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import pyarrow as pa
import pytest

from headrace import Entity, Event, FeatureService, FeatureView, First, Last, LastN, Mean, Stream, Vector, col
from headrace.base.times import epoch_us
from headrace.features.offline.spine import Spine
from headrace.trainers.data.spine_rows import SpineRows
from headrace.trainers.data.training_set import TrainingSet
from tests.support.feast_scene import NOW, FeastScene, ago

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


class Payment(Event):
    """A card pays."""

    card: str
    merchant: str | None
    due: date
    at: datetime
    place: Annotated[list[float], Vector(2)] | None = None


payments = Stream("payments", Payment, event_time="at")
cards = FeatureView(
    "card", Entity("card", str), payments, ["1d"],
    {
        "merchant": Last("merchant"), "since": First("at"), "due": Last("due"), "merchants": LastN("merchant", 2),
        "list": LastN("merchant", 3, as_list=True), "dues": LastN("due", 3, as_list=True),
        "times": LastN("at", 1, as_list=True), "flags": LastN(col("merchant") == "grocery", 2, as_list=True),
        "place": Mean("place", dim=2),
    },
)  # fmt: skip
service = FeatureService(
    "payments",
    [cards],
    request={"merchant": str},
    on_demand={
        "is_same": col("merchant") == col("card__merchant_1d"),
        "is_known": col("card__list_1d").list.contains(col("merchant")),
    },
)
PAYMENTS = [
    Payment(card="a", merchant="a bookshop with a long name", due=date(2026, 1, 31), at=ago(9), place=[1.0, 2.0]),
    Payment(card="a", merchant="grocery", due=date(2026, 2, 1), at=ago(5), place=[2.0, 4.0]),
    Payment(card="b", merchant=None, due=date(1969, 12, 31), at=ago(4)),
]
COLUMNS = ["merchant_1d", "since_1d", "due_1d", "merchants_1_1d", "merchants_2_1d"]


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> FeastScene:
    return FeastScene(services, tmp_path_factory.mktemp("feast"), "file", service=service, events=PAYMENTS)


@pytest.fixture(scope="module")
def store(scene: FeastScene) -> Iterator[Any]:
    with scene.applied(service) as store:
        yield store


def midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def test_a_look_up_through_feast_has_texts_and_times(store: Any) -> None:
    rows = [{"card": "a", "merchant": "grocery"}, {"card": "b", "merchant": "x"}, {"card": "no", "merchant": "x"}]
    found = store.get_online_features(features=store.get_feature_service("payments"), entity_rows=rows).to_dict()
    assert found["merchant_1d"] == ["grocery", None, None]
    assert found["since_1d"] == [ago(9), ago(4), None]
    assert found["due_1d"] == [midnight(date(2026, 2, 1)), midnight(date(1969, 12, 31)), None]
    assert found["merchants_2_1d"] == ["a bookshop with a long name", None, None]
    assert found["is_same"] == [True, None, None]
    assert found["is_known"] == [True, False, False]
    assert found["list_1d"] == [["grocery", "a bookshop with a long name"], [], []]
    assert found["place_1d"] == [[1.5, 3.0], None, None]
    assert found["times_1d"] == [[ago(5)], [ago(4)], []]
    assert found["dues_1d"][0] == [midnight(date(2026, 2, 1)), midnight(date(2026, 1, 31))]
    assert found["flags_1d"] == [[True, False], [], []]


def test_a_training_set_through_feast_has_the_texts_of_its_time(store: Any) -> None:
    spine = pd.DataFrame(
        {"card": ["a", "a", "b", "no"], "merchant": ["grocery"] * 4, "event_timestamp": [NOW, ago(7), NOW, NOW]}
    )
    job = store.get_historical_features(entity_df=spine, features=store.get_feature_service("payments"))
    found = job.to_df()
    assert found["merchant_1d"].tolist() == ["grocery", "a bookshop with a long name", None, None]
    assert found["since_1d"].tolist()[:3] == [ago(9), ago(9), ago(4)]
    assert found["due_1d"].tolist()[:2] == [midnight(date(2026, 2, 1)), midnight(date(2026, 1, 31))]
    assert found["is_same"].tolist()[:2] == [True, False]
    assert found["is_known"].tolist() == [True, False, False, False]
    assert [[*each] for each in found["list_1d"]] == [
        ["grocery", "a bookshop with a long name"], ["a bookshop with a long name"], [], [],
    ]  # fmt: skip
    assert [None if each is None else [*each] for each in found["place_1d"]] == [[1.5, 3.0], [1.0, 2.0], None, None]
    schema = job.to_arrow().schema
    assert schema.field("place_1d").type == pa.list_(pa.float64())
    assert schema.field("list_1d").type == pa.list_(pa.string())
    assert schema.field("dues_1d").type == pa.list_(pa.timestamp("us", "UTC"))
    assert (schema.field("merchant_1d").type, schema.field("since_1d").type) == (
        pa.string(),
        pa.timestamp("us", "UTC"),
    )


def test_our_own_training_set_has_polars_and_arrows_types(scene: FeastScene) -> None:
    spine = pd.DataFrame({"card": ["a", "no"], "merchant": ["grocery", "x"], "time": [NOW, NOW]})
    made = TrainingSet(SpineRows(service, scene.log, Spine.from_table(spine), "time", epoch_us(NOW) + 60_000_000))
    found = made.to_polars().select(made.feature_columns)
    assert [str(dtype) for dtype in found.dtypes] == [
        "String", "Datetime(time_unit='us', time_zone='UTC')", "Date", "String", "String", "List(String)",
        "List(Date)", "List(Datetime(time_unit='us', time_zone='UTC'))", "List(Boolean)",
        "Array(Float64, shape=(2,))", "Boolean", "Boolean",
    ]  # fmt: skip
    both = ["grocery", "a bookshop with a long name"]
    days = [date(2026, 2, 1), date(2026, 1, 31)]
    first = ("grocery", ago(9), days[0], *both, both, days, [ago(5)], [True, False], [1.5, 3.0], True, True)
    assert found.rows() == [first, (*[None] * 5, [], [], [], [], None, None, False)]
    types = made.to_arrow().select(made.feature_columns).schema.types
    assert [str(each) for each in types] == [
        "large_string", "timestamp[us, tz=UTC]", "date32[day]", "large_string", "large_string",
        "large_list<item: large_string>", "large_list<item: date32[day]>", "large_list<item: timestamp[us, tz=UTC]>",
        "large_list<item: bool>", "fixed_size_list<item: double>[2]", "bool", "bool",
    ]  # fmt: skip
    frame = made.to_pandas()
    assert frame["card__merchant_1d"].tolist() == ["grocery", None]
    assert str(frame["card__since_1d"].dtype) == "datetime64[us, UTC]"
    assert [[*each] for each in frame["card__list_1d"]] == [both, []]
    assert [None if each is None else [*each] for each in frame["card__place_1d"]] == [[1.5, 3.0], None]
