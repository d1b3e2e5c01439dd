"""`headrace predictions`: what the event log knows of one that was served."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from headrace.app.past_predictions import PastPrediction, PastPredictions, said_age, unlabelled
from headrace.bus.source_partition import NO_CLOCK
from headrace.errors import TerminalError
from headrace.models.predictions import Prediction
from headrace.trainers.audit.audited_service import AuditedService
from tests.support.audit_scene import MINUTE, SOURCES, START, START_US, LoggedAuditScene
from tests.support.control_topics import PREDICTIONS
from tests.support.orders_model import write

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.trainers.definitions import Model

LATER_US = START_US + 1_000 * MINUTE


class Scene:
    """The scene of an audit, with a prediction for each of its vectors."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.scene = LoggedAuditScene(folder).logged(**changes)
        self.count = len(self.scene.vectors)
        write(self.scene.log, PREDICTIONS, [self.prediction(number) for number in range(self.count)])

    def prediction(self, number: int) -> Prediction:
        served_at = self.scene.vectors[number]["served_at"]
        return Prediction(
            prediction_id=f"p{number}",
            vector_id=str(number),
            model="risk",
            version=1 + number % 2,
            role="live",
            key="a",
            requested_at=served_at,
            served_at=served_at,
            score=number / 100,
        )

    def past(self, services: Mapping[str, AuditedService] | None = None, model: Model | None = None) -> PastPredictions:
        return PastPredictions(lambda _: model or self.scene.model, self.scene.log, lambda: services or {})

    def show(self, number: int, **options: Any) -> PastPrediction:
        return self.past().show(f"p{number}", now_us=LATER_US, **options)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_newest_predictions_come_first_and_can_be_chosen(scene: Scene) -> None:
    found = scene.past().newest(3)
    assert [row["served_at"] for row in found] == sorted((row["served_at"] for row in found), reverse=True)
    assert found[0]["served_at"] == (START + timedelta(minutes=12)).isoformat().replace("+00:00", "Z")
    of_two = scene.past().newest(1_000, version=2)
    assert len(of_two) == scene.count // 2
    assert {row["version"] for row in of_two} == {2}
    assert scene.past().newest(1_000, key="nobody") == scene.past().newest(1_000, model="other") == []
    since = START + timedelta(minutes=7)
    assert {row["served_at"] >= "2020-01-01T00:07" for row in scene.past().newest(1_000, since=since)} == {True}


def test_a_log_without_predictions_has_none(tmp_path: Path) -> None:
    scene = LoggedAuditScene(tmp_path)
    assert PastPredictions(lambda _: scene.model, scene.log, dict).newest(10) == []


def test_every_value_of_a_prediction_is_shown_by_name_and_computed_again(scene: Scene) -> None:
    for number, vector in enumerate(scene.scene.vectors):
        found = scene.show(number)
        assert [each.served for each in found.features] == vector["values"]
        assert [each.recomputed for each in found.features] == vector["values"]
        assert [each.name for each in found.features] == scene.scene.model.features.columns()
        assert [view.offsets for view in found.views] == [*json.loads(vector["offsets"]).values()]
        assert [view.status for view in found.views] == [*json.loads(vector["statuses"]).values()]
        assert (found.request, found.note) == ({"shop": "a"}, "")


def test_a_prediction_names_the_events_that_its_windows_cover_below_its_offsets(scene: Scene) -> None:
    for number, vector in enumerate(scene.scene.vectors):
        below = json.loads(vector["offsets"])["now"].get(SOURCES[0].text, 0)
        served = round((vector["served_at"] - START).total_seconds() / 60)
        counted = min(below, served)  # a's sale of minute n is at offset n - 1
        view = scene.show(number, newest=2).views[0]
        assert view.events == counted
        assert [event["amount"] for event in view.newest] == [float(n) for n in range(1, counted + 1)][-2:]
        assert view.age == (None if not counted else f"{served - counted} min 00 s" if served > counted else "0 s")


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (12_500_000, "12.5 s"),
        (59_999_999, "60 s"),
        (60_000_000, "1 min 00 s"),
        (119_999_999, "1 min 59 s"),
        (3_600_000_000, "1 h 00 min"),
        (86_399_999_999, "23 h 59 min"),
        (187_200_000_000, "2 d 04 h"),
    ],
)
def test_an_age_has_units(us: int, text: str) -> None:
    assert said_age(us) == text


def test_the_outcome_of_a_prediction_is_the_label_of_its_own_request(scene: Scene) -> None:
    early = scene.past().show("p0", now_us=START_US)
    assert early.outcome.label is None
    assert early.outcome.reason.startswith("its label counts until 2020-01-01T0")
    assert scene.show(0).outcome.reason == "the event log does not have its request", "no sale was at that time"


def test_a_label_that_was_not_read_yet_may_still_come() -> None:
    assert unlabelled(START_US, START_US) == "no label has come within the time for it"
    later = unlabelled(START_US, START_US - 1)
    assert later.startswith(
        "no label has come yet: it counts until 2020-01-01T00:00:00Z, and labels are read up to 2019"
    )
    assert unlabelled(START_US, NO_CLOCK).endswith("and the event log has no labels yet")


def test_an_unknown_prediction_is_a_clear_error(scene: Scene) -> None:
    with pytest.raises(TerminalError, match="the event log has no prediction 'p9999': `headrace predictions list`"):
        scene.show(9_999)


def test_the_vector_of_another_service_is_read_by_its_deployed_definition(tmp_path: Path) -> None:
    scene = Scene(tmp_path, service="old")
    last = scene.count - 1
    assert scene.show(last).note == "its vector is of the feature service old, whose definition is not known here"
    old = replace(AuditedService.of_model(scene.scene.model), version="old")
    found = scene.past({"old": old}).show(f"p{last}", now_us=LATER_US)
    assert [each.served for each in found.features] == scene.scene.vectors[last]["values"]


def test_a_vector_that_is_not_logged_or_not_complete_is_said(tmp_path: Path) -> None:
    beyond = {"now": {SOURCES[0].text: 99}, "past": {SOURCES[0].text: 99}}
    other = Scene(tmp_path / "other", offsets=json.dumps(beyond))
    assert other.show(other.count - 1).note.startswith("its vector used records that the event log does not have")
    gone = Scene(tmp_path / "gone", vector_id="gone")
    assert gone.show(gone.count - 1).note == "the event log does not have its vector"
