"""Definitions that change while events flow: on real Kafka and Valkey, with workers that die."""

from __future__ import annotations

import itertools
import signal
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from headrace.base.times import epoch_us, utc_datetime
from headrace.bus.control_topics import ControlTopics
from headrace.features.online.cursor import CursorState
from headrace.models.kafka_model_event_log import KafkaModelEventLog
from headrace.models.model_events import ViewRef
from headrace.serving.features import FeatureClient, Status
from tests.support.crash.definitions import USERS
from tests.support.deployments_scene import CATCH_UP_ROWS, Scene, check_rows
from tests.support.model_events import SERVICE, published, retired
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]


@pytest.fixture
def scene(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(services, namespace, tmp_path / "events")
    yield scene
    scene.close()


def at_work(scene: Scene, rows: int = 8_000, **changes: object) -> None:
    """A worker has folded and logged the first rows with version 1."""
    scene.start(**changes)
    scene.produce(rows)
    until(lambda: scene.is_at_end(1) and scene.logged(), 60, lambda: (scene.positions(1), scene.till.ends()))


def test_a_view_that_is_added_while_events_flow_ends_exact_and_the_old_one_stays_fresh(scene: Scene) -> None:
    at_work(scene, slice_pause_s=0.1)
    scene.deploy(scene.view(1), scene.view(2, "more"))
    backfilled: list[int] = []  # rows of the new view that the old one waited for, each time that it was level again
    for _ in range(40):
        before = sum(scene.positions(2, "more"))
        scene.produce(100)
        until(lambda: scene.positions(1) == scene.till.ends(), 30)
        after = sum(scene.positions(2, "more"))
        if after and not scene.is_live(2, "more"):
            backfilled.append(after - before)
        scene.check(1)
    assert len(backfilled) >= 4, "the backfill was too quick to be looked at"
    assert max(backfilled) <= 8 * CATCH_UP_ROWS, "live rows wait for a few slices, never for the whole backfill"
    until(lambda: scene.is_live(2, "more") and scene.positions(2, "more") == scene.till.ends(), 60)
    found = scene.client.get_views(
        scene.name(2, "more"), [{"user": user} for user in USERS], as_of=utc_datetime(scene.till.end_us)
    )
    renamed = [{name.replace("more__", "user__"): value for name, value in row.items()} for row in found.to_dicts()]
    offsets = [found.offsets(row)["more"] for row in range(found.rows)]
    check_rows(scene.till.produced, renamed, offsets, 2, epoch_us(found.at))
    assert scene.rows_total(1) == sum(record.event is not None for record in scene.till.produced)


def test_a_backfill_goes_on_where_it_stood_when_its_worker_was_killed(scene: Scene) -> None:
    at_work(scene)
    workers = scene.workers
    workers[0].kill()
    workers[0].join()
    scene.deploy(scene.view(2))
    reached = []
    for step, count in (("before-catch-up", 3), ("after-catch-up", 4), ("after-catch-up", 1)):
        worker = scene.start(failpoint=f"{step}:{count}")
        worker.join(60)
        assert worker.exitcode == -signal.SIGKILL
        reached.append(sum(scene.positions(2)))
        scene.produce(200)
    assert 0 < reached[0] < reached[1] < reached[2], "each began where the one before was"
    scene.start()
    until(lambda: scene.is_at_end(2), 60, lambda: (scene.positions(2), scene.till.ends()))
    scene.check(2)
    assert scene.rows_total(2) == sum(record.event is not None for record in scene.till.produced)


def test_a_service_goes_over_at_once_and_a_client_sees_no_gap_and_no_mix(scene: Scene) -> None:
    at_work(scene, slice_pause_s=0.05)
    seen: list[tuple[list[str], set[Status]]] = []
    done = threading.Event()

    def look() -> None:
        client = FeatureClient(scene.store, heartbeat_bound="30s")
        while not done.is_set():
            found = client.get("risk", [{"user": user} for user in USERS[:20]], as_of=utc_datetime(scene.till.end_us))
            versions = [f"{view.view}@{view.version}" for view in found.views]
            seen.append((versions, {status for row in range(20) for status in found.statuses(row).values()}))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        scene.deploy(scene.view(2), scene.view(3, "more"))
        until(lambda: scene.is_live(2) and scene.is_live(3, "more"), 60)
        until(lambda: seen[-1][0] == [scene.name(2), scene.name(3, "more")], 10, lambda: seen[-1])
        until(lambda: scene.keys(scene.name(1)) == 0, 20)
        time.sleep(0.5)
    finally:
        done.set()
        looking.join()
    old, new = [scene.name(1)], [scene.name(2), scene.name(3, "more")]
    assert [versions for versions, _ in itertools.groupby(versions for versions, _ in seen)] == [old, new]
    assert {status for _, statuses in seen for status in statuses} <= {Status.PRESENT, Status.MISSING}
    scene.check(2)


def test_an_old_version_is_folded_while_a_model_names_it_and_goes_with_the_model(
    scene: Scene, services: LocalServices
) -> None:
    at_work(scene)
    model = f"{scene.namespace}-model"
    events = KafkaModelEventLog(services.bootstrap_servers, ControlTopics(scene.namespace).models)
    ref = msgspec.structs.replace(SERVICE, views=[ViewRef(name="user", spec_hash=scene.view(1).version, keys=["user"])])
    first = msgspec.structs.replace(published(f"{model}-1", 1, expects=None, service=ref), model=model)
    events.append(first)
    scene.deploy(scene.view(2))
    until(lambda: scene.is_at_end(2), 60)
    time.sleep(5)
    scene.produce(300)
    until(lambda: scene.is_at_end(1) and scene.is_at_end(2), 20)
    scene.check(1)
    events.append(msgspec.structs.replace(published(f"{model}-2", 2, expects=first.id), model=model))
    events.append(msgspec.structs.replace(retired(f"{model}-3", 1), model=model))
    events.close()
    assert scene.keys(scene.name(1)) > 0
    until(lambda: scene.keys(scene.name(1)) == 0, 30)
    scene.produce(300)
    until(lambda: scene.is_at_end(2), 20)
    time.sleep(1)
    assert scene.keys(scene.name(1)) == 0
    assert scene.store.get_document(f"view:{scene.name(1)}") is None
    scene.check(2)


def test_a_store_that_is_emptied_in_a_backfill_is_filled_again_with_all_versions(scene: Scene) -> None:
    at_work(scene, slice_pause_s=0.1)
    scene.deploy(scene.view(1), scene.view(2, "more"))
    until(lambda: any(scene.positions(2, "more")), 20)
    scene.redis.flushall()
    until(lambda: scene.is_at_end(1) and scene.is_live(2, "more"), 60)
    scene.check(1)
    cursors = scene.store.cursors([scene.name(2, "more")])[0].values()
    assert {cursor.state for cursor in cursors} == {CursorState.LIVE}
    assert scene.positions(2, "more") == scene.till.ends()
