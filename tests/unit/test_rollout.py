"""Deployments: their fold, when a service goes over, and when an old view goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec import structs

from headrace.bus.stream_spec import FieldSpec
from headrace.errors import CodecError, NewerFormatError
from headrace.features.definitions.expression import col
from headrace.features.definitions.spec import to_document
from headrace.features.online.cursor import CursorState
from headrace.streams.deployments.deployment import Deployed, Deployment, ViewsRetired, advance, decode, encode
from tests.support.model_events import retired
from tests.support.rollout_scene import (
    NEW,
    NEW_NAME,
    OLD,
    OLD_NAME,
    OTHER,
    OTHER_NAME,
    TOPICS,
    Scene,
    folded,
    made,
    model_event,
)

if TYPE_CHECKING:
    from headrace.streams.deployments.rollout import Rollout


GOLDEN = (
    b'{"type":"deployed","id":"d1","namespace":"here","expects":null,"views":[{"spec_version":1,"view":"user","'
    b'entity":{"name":"user","keys":[["user","str"]]},"source":{"topic":"t.payments","event":"Payment","fields"'
    b':[{"name":"user","kind":"str","many":false,"nullable":false},{"name":"at","kind":"datetime","many":false,'
    b'"nullable":false},{"name":"cents","kind":"int","many":false,"nullable":false}],"event_time":"at","key":["'
    b'user"],"lateness_us":3600000000,"tolerance_us":300000000,"available_at":"record"},"where":null,"derived":'
    b'[],"windows":[{"name":"1h","length_us":3600000000,"tile_us":60000000}],"features":[{"name":"n","aggregate'
    b'":"count","value":null,"where":null}],"max_age_us":null,"history_us":0,"delay_us":1000,"clock":"wall"}],"'
    b'services":[{"spec_version":2,"service":"risk","views":[["user","0ea5d112c7976a9d"]],"on_demand":{"request'
    b'":[],"features":[{"name":"more","kind":"int","value":["col","user__n_1h"]}]}}],"at_us":7,"format":1}'
)


@pytest.fixture
def scene() -> Scene:
    return Scene()


# -- the fold ---------------------------------------------------------------------------------------------------------


def test_the_first_worker_deploys_what_it_was_started_with_and_the_next_takes_what_is_deployed(scene: Scene) -> None:
    first, second = scene.worker(OLD), scene.worker(NEW)
    assert folded(first) == folded(second) == {OLD_NAME}
    assert scene.served() == [OLD_NAME]
    assert len(scene.log.messages) == 1


def test_a_deployment_that_expected_another_one_is_void(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.deploy(None, NEW)
    scene.deploy("someone else's", NEW)
    scene.deploy(worker.deployment.id, NEW, namespace="elsewhere")
    assert folded(worker) == {OLD_NAME}


def test_messages_that_cannot_be_read_change_nothing(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.log.put(TOPICS.definitions, None, b"{")
    scene.log.put(TOPICS.definitions, None, b'{"type":"deployed","format":99}')
    scene.log.put(TOPICS.models, b"m", b"{")
    assert folded(worker) == {OLD_NAME}
    with pytest.raises(NewerFormatError, match="upgrade"):
        decode(b'{"type":"deployed","format":99}')
    with pytest.raises(CodecError):
        decode(b"{")


def test_the_bytes_of_a_deployment_stay_readable() -> None:
    deployed = Deployed(
        id="d1", namespace="here", expects=None, views=[OLD.spec], services=[made(more=col("user__n_1h"))], at_us=7
    )
    retired = ViewsRetired(namespace="here", expects="d1", views=["v@1"], at_us=8)
    assert (encode(deployed), decode(GOLDEN)) == (GOLDEN, deployed)
    golden = b'{"type":"views_retired","namespace":"here","expects":"d1","views":["v@1"],"at_us":8,"format":1}'
    assert (encode(retired), decode(golden)) == (golden, retired)


def test_a_view_that_wants_more_of_a_stream_than_the_worker_reads_is_left_alone(scene: Scene) -> None:
    more = (*NEW.spec.stream.fields, FieldSpec(name="new", kind="int", many=False, nullable=True))
    newer = structs.replace(NEW.spec, stream=structs.replace(NEW.spec.stream, fields=more))
    worker = scene.worker(OLD)
    scene.log.append(
        Deployed(id="x", namespace="here", expects=worker.deployment.id, views=[OLD.spec, newer], services=[], at_us=3)
    )
    assert folded(worker) == {OLD_NAME}


def test_a_deployment_of_an_aggregate_that_a_later_release_knows_is_refused_and_the_one_before_holds(
    scene: Scene,
) -> None:
    worker = scene.worker(OLD)
    later = GOLDEN.replace(b'"aggregate":"count"', b'"aggregate":"trimmed_mean"')
    with pytest.raises(CodecError, match=r"'trimmed_mean' - at `\$\.views\[0\]\.features\[0\]\.aggregate`"):
        decode(later)
    scene.log.put(TOPICS.definitions, None, later)
    assert folded(worker) == {OLD_NAME}


# -- services ---------------------------------------------------------------------------------------------------------


def test_a_service_goes_over_when_every_partition_of_all_its_new_views_is_live(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.live(OLD_NAME)
    scene.deploy(worker.deployment.id, NEW, OTHER)
    assert folded(worker) == {OLD_NAME, NEW_NAME, OTHER_NAME}
    scene.live(NEW_NAME)
    scene.reach(OTHER_NAME, CursorState.LIVE)
    worker.step()
    assert scene.served() == [OLD_NAME], "a partition of other has no cursor yet"
    scene.reach(OTHER_NAME, CursorState.REBUILDING, partition=1)
    worker.step()
    assert scene.served() == [OLD_NAME], "a partition of other is catching up"
    scene.reach(OTHER_NAME, CursorState.LIVE, partition=1)
    worker.step()
    assert scene.served() == [NEW_NAME, OTHER_NAME]


def test_the_name_of_a_view_goes_over_when_every_partition_of_the_new_version_is_live(scene: Scene) -> None:
    def named() -> str:
        document = scene.store.get_document(f"view:{OLD.name}")
        assert document is not None
        ((name, version),) = document["views"]
        return f"{name}@{version}"

    worker = scene.worker(OLD)
    assert named() == OLD_NAME
    scene.deploy(worker.deployment.id, NEW)
    scene.reach(NEW_NAME, CursorState.LIVE)
    worker.step()
    assert named() == OLD_NAME, "a partition has no cursor yet"
    scene.live(NEW_NAME)
    worker.step()
    assert named() == NEW_NAME
    scene.deploy(worker.deployment.id, OTHER)
    worker.step()
    assert scene.store.get_document(f"view:{OLD.name}") is None


def test_a_worker_that_has_not_heard_does_not_go_back(scene: Scene) -> None:
    worker, slow = scene.worker(OLD), scene.worker(OLD)
    scene.live(OLD_NAME, NEW_NAME)
    scene.deploy(worker.deployment.id, NEW)
    worker.step()
    slow.publish()
    assert scene.served() == [NEW_NAME]


def test_an_emptied_store_is_filled_again(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.deploy(worker.deployment.id, NEW)
    worker.step()
    scene.store.clear()
    worker.publish()
    assert scene.served() == [NEW_NAME]
    assert scene.store.get_document(f"view:{OLD_NAME}") == to_document(OLD.spec)
    assert scene.store.get_document(f"view:{NEW_NAME}") == to_document(NEW.spec)


# -- retiring ---------------------------------------------------------------------------------------------------------


def go_over(scene: Scene, worker: Rollout) -> None:
    scene.live(OLD_NAME)
    scene.deploy(worker.deployment.id, NEW)
    worker.step()
    scene.live(NEW_NAME)
    worker.step()


def pass_time(scene: Scene, *workers: Rollout, seconds: float) -> None:
    for _ in range(round(seconds)):
        scene.now += 1
        for worker in workers:
            worker.step()


def test_an_old_view_goes_a_while_after_nothing_needs_it(scene: Scene) -> None:
    worker, other = scene.worker(OLD), scene.worker(OLD)
    scene.live(OLD_NAME)
    scene.deploy(worker.deployment.id, NEW)
    pass_time(scene, worker, other, seconds=70)
    assert folded(worker) == {OLD_NAME, NEW_NAME}, "the service still serves it"
    scene.live(NEW_NAME)
    pass_time(scene, worker, other, seconds=59)
    assert folded(worker) == {OLD_NAME, NEW_NAME}, "an application may be about to look it up"
    pass_time(scene, worker, other, seconds=4)
    assert folded(worker) == folded(other) == {NEW_NAME}
    assert scene.store.cursors([OLD_NAME])[0], "another worker may still fold it"
    pass_time(scene, worker, other, seconds=6)
    assert not scene.store.cursors([OLD_NAME])[0]
    assert scene.store.drop([OLD_NAME], 0) == (0, 0), "nothing of it is left"
    assert scene.store.get_document(f"view:{OLD_NAME}") is None
    assert len(scene.store.cursors([NEW_NAME])[0]) == len((0, 1))


def test_a_view_that_a_model_version_names_stays_until_that_is_retired(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.log.model_event(model_event(OLD_NAME))
    go_over(scene, worker)
    pass_time(scene, worker, seconds=100)
    assert folded(worker) == {OLD_NAME, NEW_NAME}
    assert not worker.deployment.retired
    scene.log.model_event(model_event(NEW_NAME, version=2, expects="e1"))
    pass_time(scene, worker, seconds=100)
    assert folded(worker) == {OLD_NAME, NEW_NAME}, "one can go back to version 1"
    scene.log.model_event(retired("r", 1))
    pass_time(scene, worker, seconds=70)
    assert folded(worker) == {NEW_NAME}


def test_a_retired_view_that_is_named_again_is_folded_again(scene: Scene) -> None:
    worker = scene.worker(OLD)
    go_over(scene, worker)
    pass_time(scene, worker, seconds=80)
    assert folded(worker) == {NEW_NAME}
    scene.log.model_event(model_event(OLD_NAME))
    assert folded(worker) == {OLD_NAME, NEW_NAME}
    assert scene.store.get_document(f"view:{OLD_NAME}") == to_document(OLD.spec)
    scene.live(OLD_NAME)
    pass_time(scene, worker, seconds=20)
    assert scene.store.cursors([OLD_NAME])[0], "it is dropped no more"


def test_a_retirement_that_a_deployment_came_before_is_void() -> None:
    state = advance(Deployment(), Deployed(id="1", namespace="n", expects=None, views=[OLD.spec], services=[], at_us=0))
    second = advance(state, Deployed(id="2", namespace="n", expects="1", views=[NEW.spec], services=[], at_us=0))
    back = advance(second, Deployed(id="3", namespace="n", expects="2", views=[OLD.spec], services=[], at_us=0))
    late = advance(back, ViewsRetired(namespace="n", expects="2", views=[OLD_NAME], at_us=0))
    assert set(late.folded(())) == {OLD_NAME, NEW_NAME}


def test_a_service_that_is_not_wanted_any_more_is_removed(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.log.append(
        Deployed(id="x", namespace="here", expects=worker.deployment.id, views=[OLD.spec], services=[], at_us=3)
    )
    worker.step()
    assert scene.store.get_document("service:risk") is None


# -- the plan ---------------------------------------------------------------------------------------------------------


def test_a_service_that_makes_other_features_on_demand_goes_over_at_once(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.live(OLD_NAME)
    wanted = made(more=col("user__n_1h") + 1)
    scene.log.append(
        Deployed(id="x", namespace="here", expects=worker.deployment.id, views=[OLD.spec], services=[wanted], at_us=3)
    )
    worker.step()
    found = scene.store.get_document("service:risk")
    assert found == to_document(wanted) | {"deployment": 2}
