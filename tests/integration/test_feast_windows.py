"""The newest rows and sessions through Feast, a training set and a look-up: one value everywhere."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from headrace import Count, Entity, Event, FeatureService, FeatureView, Last, LastN, Rows, Session, Stream, Sum
from headrace.base.times import epoch_us
from headrace.features.offline.spine import Spine
from headrace.trainers.data.spine_rows import SpineRows
from headrace.trainers.data.training_set import TrainingSet
from tests.support.feast_scene import NOW, FeastScene

if TYPE_CHECKING:
    from collections.abc import Iterator

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("ignore")]


class Click(Event):
    """Somebody looks at a page."""

    visitor: str
    page: str
    seconds: int
    at: datetime


clicks = Stream("clicks", Click, event_time="at")
visitors = FeatureView(
    "visitor", Entity("visitor", str), clicks,
    [Rows(2), Rows(3, within="2h"), Session("30m"), Session("30m", ago=1)],
    {"n": Count(), "seconds": Sum("seconds"), "page": Last("page"), "pages": LastN("page", 2, as_list=True)},
)  # fmt: skip
service = FeatureService("clicks", [visitors])
AGO = [
    ("a", 500, "home"),
    ("a", 170, "shop"),
    ("a", 160, "cart"),
    ("a", 20, "home"),
    ("b", 50, "home"),
    ("a", 5, "pay"),
]
"""Visitor, minutes ago, page."""
COLUMNS = [name.removeprefix("visitor__") for name in visitors.spec.columns]
WINDOWS = ["rows_2", "rows_3_within_2h", "session_30m", "session_30m_ago_1"]


def before(minutes: float) -> datetime:
    return NOW - timedelta(minutes=minutes)


EVENTS = [
    Click(visitor=visitor, page=page, seconds=2**place, at=before(minutes))
    for place, (visitor, minutes, page) in enumerate(AGO)
]


@pytest.fixture(scope="module")
def scene(services: LocalServices, tmp_path_factory: pytest.TempPathFactory) -> FeastScene:
    return FeastScene(services, tmp_path_factory.mktemp("feast"), "file", service=service, events=EVENTS)


@pytest.fixture(scope="module")
def store(scene: FeastScene) -> Iterator[Any]:
    with scene.applied(service) as store:
        yield store


def test_feast_a_look_up_and_a_training_set_say_the_same(scene: FeastScene, store: Any) -> None:
    entities = [{"visitor": "a"}, {"visitor": "b"}, {"visitor": "no"}]
    online = store.get_online_features(features=store.get_feature_service("clicks"), entity_rows=entities).to_dict()
    assert {name: online[f"n_{name}"] for name in WINDOWS} == {
        "rows_2": [2, 1, 0], "rows_3_within_2h": [2, 1, 0], "session_30m": [2, 0, 0], "session_30m_ago_1": [2, 1, 0],
    }  # fmt: skip
    assert {name: online[f"seconds_{name}"][0] for name in WINDOWS} == {
        "rows_2": 40, "rows_3_within_2h": 40, "session_30m": 40, "session_30m_ago_1": 6,
    }  # fmt: skip
    assert online["pages_session_30m_ago_1"] == [["cart", "shop"], ["home"], []]
    assert online["page_rows_2"] == ["pay", "home", None]
    looked_up = scene.client.get("clicks", entities).to_lists()
    assert looked_up == [[online[name][row] for name in COLUMNS] for row in range(3)]

    spine = pd.DataFrame({"visitor": ["a", "b", "no", "a"], "event_timestamp": [NOW, NOW, NOW, before(155)]})
    past = store.get_historical_features(entity_df=spine, features=store.get_feature_service("clicks")).to_df()
    rows = [[_plain(past[name][row]) for name in COLUMNS] for row in range(4)]
    assert rows[:3] == looked_up
    assert [past[f"n_{name}"][3] for name in WINDOWS] == [2, 2, 2, 1]  # at that time: shop, cart; before them home

    times = spine.rename(columns={"event_timestamp": "time"})
    made = TrainingSet(SpineRows(service, scene.log, Spine.from_table(times), "time", epoch_us(NOW) + 60_000_000))
    assert [[*map(_plain, row)] for row in made.to_polars().select(made.feature_columns).rows()] == rows


def _plain(value: Any) -> Any:
    """A value without numpy's types."""
    return value.tolist() if hasattr(value, "tolist") else value
