from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from structlog.testing import capture_logs

from headrace.base.times import SettableClock, utc_datetime
from headrace.errors import BusUnavailableError, NoModelError
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.model_event_log import MemoryAcknowledgements, MemoryModelEventLog
from headrace.models.model_events import Acknowledgement, ArtifactRef, ModelEvent, ModelEventRecord
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.model_events import promoted, published, rolled_back
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path


class OwnClassifier(LogisticRegression):  # type: ignore[misc]
    """An estimator of a user."""


class House:
    """A log, a folder of artifacts and a subscriber."""

    def __init__(self, folder: Path, loading: LoadingPolicy) -> None:
        self.folder = folder
        self.log = MemoryModelEventLog()
        self.acks = MemoryAcknowledgements()
        self.clock = SettableClock(utc_datetime(77))
        self.subscriber = self.another(loading)

    def another(self, loading: LoadingPolicy) -> ModelSubscriber:
        return ModelSubscriber("delay", self.log, self.acks, loading, application="web", clock=self.clock)

    def publish(
        self, id_: str, version: int, expects: str | None, *, store: bool = True, **artifact_: str
    ) -> ModelEvent:
        """Version v predicts about v / 10."""
        positives = [0] * (10 - version) + [1] * version
        stored = artifact.dump(LogisticRegression().fit(np.zeros((10, 1)), positives))
        path = self.folder / f"{version}.skops"
        uri = artifact.store(stored, path) if store else path.resolve().as_uri()
        ref = ArtifactRef(uri=uri, digest=stored.digest, content_hash=stored.content_hash)
        ref = msgspec.structs.replace(ref, **artifact_)
        event = published(id_, version, expects=expects, artifact=ref)
        self.log.append(event)
        return event

    @property
    def said(self) -> list[tuple[str, int, bool]]:
        return [(ack.event_id, ack.version, ack.ok) for ack in self.acks.sent]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path, LoadingPolicy(trusted=[], places=ArtifactPlaces([tmp_path, "hdfs://bucket"])))


def test_before_the_first_version_there_is_none(house: House) -> None:
    assert house.subscriber.poll_once() is None
    assert house.acks.sent == []


def test_a_published_version_serves_and_is_acknowledged_once(house: House) -> None:
    event = house.publish("a", 1, None)
    loaded = house.subscriber.poll_once()
    assert loaded is not None
    assert (loaded.version, loaded.event, loaded.published) == (1, event, event.data)
    assert loaded.estimator.predict_proba([[0.0]])[0, 1] == pytest.approx(0.1, abs=0.01)
    assert house.subscriber.poll_once() is loaded
    ack = Acknowledgement(application="web", model="delay", version=1, event_id="a", ok=True, at_us=77)
    assert house.acks.sent == [ack]


def test_each_version_that_is_loaded_is_logged_once(house: House) -> None:
    with capture_logs() as lines:
        house.subscriber.poll_once()
        house.publish("a", 1, None)
        house.subscriber.poll_once()
        house.publish("b", 2, "a")
        house.log.append(rolled_back("x", 2))  # a pin of the live version
        house.subscriber.poll_once()
        house.subscriber.poll_once()
        house.log.append(rolled_back("y", 1))
        house.subscriber.poll_once()
    said = [(line["event"], line["model"], line["version"], line.get("before")) for line in lines]
    assert said == [("version loaded", "delay", version, before) for version, before in ((1, None), (2, 1), (1, 2))]


def test_a_late_comer_loads_the_live_version_only(house: House) -> None:
    house.publish("a", 1, None, store=False)
    house.publish("b", 2, "a")
    house.publish("c", 3, "a", store=False)  # void: judged against a
    loaded = house.subscriber.poll_once()
    assert loaded is not None
    assert loaded.version == 2
    assert house.said == [("b", 2, True)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "sha256:beef"}, "not the published bytes"),
        ({"uri": "hdfs://bucket/2.skops"}, "artifacts are read from folders, s3, gs,"),
    ],
)
def test_a_bad_artifact_leaves_the_old_version_and_says_why_once(
    house: House, change: dict[str, Any], reason: str
) -> None:
    house.publish("a", 1, None)
    first = house.subscriber.poll_once()
    house.publish("b", 2, "a", **change)
    assert house.subscriber.poll_once() is first
    assert house.subscriber.poll_once() is first
    assert house.said == [("a", 1, True), ("b", 2, False)]
    assert reason in house.acks.sent[-1].reason
    house.publish("c", 3, "b")
    after = house.subscriber.poll_once()
    assert after is not None
    assert after.version == 3


def test_an_artifact_that_comes_later_is_taken_then(house: House) -> None:
    house.publish("a", 1, None, store=False)
    assert house.subscriber.poll_once() is None
    assert house.subscriber.poll_once() is None
    late = artifact.dump(LogisticRegression().fit(np.zeros((2, 1)), [0, 1]))
    house.log.append(
        published("b", 2, expects="a", artifact=ArtifactRef(
            uri=(house.folder / "late.skops").resolve().as_uri(), digest=late.digest, content_hash=late.content_hash))
    )  # fmt: skip
    assert house.subscriber.poll_once() is None
    artifact.store(late, house.folder / "late.skops")
    loaded = house.subscriber.poll_once()
    assert loaded is not None
    assert loaded.version == 2
    assert house.said == [("a", 1, False), ("b", 2, False), ("b", 2, True)]


def test_an_application_that_starts_on_a_broken_version_answers_with_the_last_one_that_loads(house: House) -> None:
    house.publish("a", 1, None)
    house.publish("b", 2, "a", digest="sha256:beef")
    house.publish("c", 3, "b")
    stored = house.folder / "3.skops"
    away = stored.rename(house.folder / "away")
    loaded = house.subscriber.poll_once()
    assert loaded is not None
    assert (loaded.version, loaded.event.id) == (1, "a")
    assert house.said == [("c", 3, False), ("b", 2, False), ("a", 1, True)]
    assert house.subscriber.poll_once() is loaded
    status = house.subscriber.status
    assert (status.version, status.wanted, status.is_current) == (1, 3, False)
    assert status.error.startswith("version 3 cannot be loaded: ")
    assert status.error.endswith("; version 1 answers instead")
    assert len(house.said) == 3
    away.rename(stored)
    live = house.subscriber.poll_once()
    assert live is not None
    assert live.version == 3
    assert house.said[3:] == [("c", 3, True)]
    assert "instead" not in house.subscriber.status.error


def test_an_application_that_runs_keeps_the_version_that_it_has(house: House) -> None:
    house.publish("a", 1, None)
    house.publish("b", 2, "a")
    house.subscriber.poll_once()
    house.publish("c", 3, "b", digest="sha256:beef")
    kept = house.subscriber.poll_once()
    assert kept is not None
    assert kept.version == 2
    assert house.said == [("b", 2, True), ("c", 3, False)]


def test_a_version_that_a_person_took_back_is_no_way_out(house: House) -> None:
    """Version 2 would load, and is what everybody was to leave."""
    house.publish("a", 1, None, store=False)
    house.publish("b", 2, "a")
    house.log.append(rolled_back("x", 1))
    assert house.subscriber.poll_once() is None
    assert house.said == [("x", 1, False)]
    house.log.append(promoted("p", 2))
    live = house.subscriber.poll_once()
    assert live is not None
    assert live.version == 2


def test_a_version_that_waits_for_its_approval_is_not_loaded(house: House) -> None:
    house.publish("a", 1, None)
    house.log.append(published("w", 2, expects="a", approval="wanted", format=4))
    loaded = house.subscriber.poll_once()
    assert loaded is not None
    assert (loaded.version, house.said) == (1, [("a", 1, True)])


def test_types_that_the_deployment_does_not_trust_are_refused(tmp_path: Path) -> None:
    house = House(tmp_path, LoadingPolicy(trusted=[], places=ArtifactPlaces([tmp_path])))
    own = artifact.dump(OwnClassifier().fit([[0.0], [1.0]], [0, 1]))
    ref = ArtifactRef(uri=artifact.store(own, tmp_path / "t.skops"), digest=own.digest, content_hash=own.content_hash)
    house.log.append(published("a", 1, expects=None, artifact=ref))
    assert house.subscriber.poll_once() is None
    name = f"{__name__}.OwnClassifier"
    assert name in house.acks.sent[0].reason
    trusting = house.another(LoadingPolicy([name], ArtifactPlaces([tmp_path])))
    assert trusting.poll_once() is not None


def test_a_version_that_fails_on_the_sample_never_serves(tmp_path: Path) -> None:
    seen: list[Any] = []

    def sample(service: Any) -> Any:
        seen.append(service)
        return np.zeros((3, 1 if len(seen) == 1 else 2))

    house = House(tmp_path, LoadingPolicy(trusted=[], places=ArtifactPlaces([tmp_path]), sample=sample))
    house.publish("a", 1, None)
    first = house.subscriber.poll_once()
    house.publish("b", 2, "a")
    assert house.subscriber.poll_once() is first is not None
    assert "2 features" in house.acks.sent[-1].reason
    assert [service.columns for service in seen] == [first.published.service.columns] * 2


def test_a_rollback_brings_the_old_estimator_back(house: House) -> None:
    house.publish("a", 1, None)
    house.publish("b", 2, "a")
    house.subscriber.poll_once()
    house.log.append(rolled_back("x", 1))
    back = house.subscriber.poll_once()
    assert back is not None
    assert (back.version, back.event.id) == (1, "x")
    assert back.estimator.predict_proba([[0.0]])[0, 1] == pytest.approx(0.1, abs=0.01)
    house.log.append(rolled_back("y", 1, pin=False))
    unpinned = house.subscriber.poll_once()
    assert unpinned is not None
    assert unpinned.estimator is back.estimator
    assert house.said == [("b", 2, True), ("x", 1, True), ("y", 1, True)]


def test_an_unreadable_record_and_another_model_change_nothing(house: House) -> None:
    house.log.append_record(ModelEventRecord(b"delay", {}, b"garbage"))
    house.log.append(msgspec.structs.replace(published("z", 7, expects=None), model="fraud"))
    house.publish("a", 1, None)
    loaded = house.subscriber.poll_once()
    assert loaded is not None
    assert loaded.version == 1


def test_an_acknowledgement_that_did_not_go_out_goes_out_later(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Acknowledgement) -> None:
        raise BusUnavailableError("down")

    house.publish("a", 1, None)
    with monkeypatch.context() as down:
        down.setattr(house.acks, "send", refuse)
        with pytest.raises(BusUnavailableError):
            house.subscriber.poll_once()
    assert house.subscriber.current is not None
    house.subscriber.poll_once()
    assert house.said == [("a", 1, True)]


def test_the_thread_swaps_and_survives_a_bus_that_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headrace.serving.subscriber._RETRY_S", 0.01)
    read, failures = house.log.read, [BusUnavailableError("away")] * 2

    def shaky(start: int = 0, *, wait: Any = "0s") -> Any:
        if failures:
            raise failures.pop()
        return read(start, wait=wait)

    monkeypatch.setattr(house.log, "read", shaky)
    house.subscriber.start()
    try:
        with pytest.raises(NoModelError, match=r"no version loaded after 10ms: .*(away|is a trainer running)"):
            house.subscriber.wait_until_ready("10ms")
        house.publish("a", 1, None)
        assert house.subscriber.wait_until_ready("20s").version == 1
        with pytest.raises(NoModelError, match="no version 2 loaded after 10ms: version 1 is live"):
            house.subscriber.wait_until_ready("10ms", version=2)
        house.publish("b", 2, "a")
        assert house.subscriber.wait_until_ready("20s", version=2).version == 2
        assert failures == []
        until(lambda: house.subscriber.status.is_current, 20, lambda: house.subscriber.status)
    finally:
        house.subscriber.stop()


def test_importing_the_subscriber_imports_nothing_heavy() -> None:
    code = (
        "import sys, headrace.serving, headrace.serving.subscriber\n"
        "heavy = {'sklearn', 'pandas', 'skops', 'confluent_kafka', 'mlflow', 'feast', 'faust', 'polars', 'deltalake'}\n"
        "print(*sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == ""
