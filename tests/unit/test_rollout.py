"""Deployments: their fold, when a service goes over, and when an old view goes."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from headrace.bus.topics import DEFINITIONS, MODELS
from headrace.errors import CodecError, NewerFormatError
from headrace.features.aggregates import Count, Sum
from headrace.features.definitions import Entity, FeatureService, FeatureView
from headrace.features.expression import Expression, col
from headrace.features.memory_store import MemoryOnlineStore
from headrace.features.online import Cursor, CursorState, Source, Write
from headrace.models.events import ModelEvent, ViewRef, encode
from headrace.streams.changes import changes
from headrace.streams.deployment import Change, Deployed, Deployment, ViewsRetired, advance, decode, named
from headrace.streams.plan import make_plan
from headrace.streams.rollout import Rollout
from tests.crash.definitions import payments
from tests.model_events import SERVICE, published, retired

STREAM = payments("t")
USER = Entity("user", str)
OLD = FeatureView("user", USER, STREAM, ["1h"], {"n": Count()})
NEW = FeatureView("user", USER, STREAM, ["1h", "1d"], {"n": Count(), "cents": Sum("cents")})
OTHER = FeatureView("other", USER, STREAM, ["1h"], {"n": Count()})
OLD_NAME, NEW_NAME, OTHER_NAME = (named(view.spec) for view in (OLD, NEW, OTHER))


def service(*views: FeatureView) -> dict[str, Any]:
    return FeatureService("risk", views).spec


class Log:
    """Both topics in memory, as several workers follow them."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def append(self, change: Change) -> None:
        self.put(DEFINITIONS, None, msgspec.json.encode(change))

    def put(self, topic: str, key: bytes | None, value: bytes, headers: Any = ()) -> None:
        self.messages.append(Message(topic, key, value, list(headers), len(self.messages)))

    def model_event(self, event: ModelEvent) -> None:
        record = encode(event)
        self.put(MODELS, record.key, record.value, record.headers.items())


class Message:
    def __init__(self, *parts: Any) -> None:
        self._parts = parts

    def topic(self) -> Any:
        return self._parts[0]

    def key(self) -> Any:
        return self._parts[1]

    def value(self) -> Any:
        return self._parts[2]

    def headers(self) -> Any:
        return self._parts[3]

    def offset(self) -> Any:
        return self._parts[4]


class Tail:
    def __init__(self, log: Log) -> None:
        self._log, self._at = log, 0

    def drain(self) -> list[Any]:
        found = self._log.messages[self._at :]
        self._at += len(found)
        return found

    def poll(self, timeout_s: float) -> list[Any]:
        assert timeout_s == 0
        return self.drain()


class Scene:
    """A store, the logs, and workers."""

    def __init__(self) -> None:
        self.store, self.log, self.now, self.ids = MemoryOnlineStore(), Log(), 0.0, itertools.count()

    def worker(self, *views: FeatureView) -> Rollout:
        rollout = Rollout(
            "here", [STREAM], self.store, Tail(self.log), self.log.append,
            new_id=lambda: f"d{next(self.ids)}", clock=lambda: 1,
            monotonic=lambda: self.now, grace_s=60, drop_after_s=5,
        )  # fmt: skip
        rollout.begin([view.spec for view in views], [service(*views)])
        rollout.publish()
        return rollout

    def deploy(self, expects: str | None, *views: FeatureView, namespace: str = "here") -> None:
        specs = [view.spec for view in views]
        self.log.append(
            Deployed(
                id=f"d{next(self.ids)}", namespace=namespace, expects=expects, views=specs,
                services=[service(*views)], at_us=2,
            )
        )  # fmt: skip

    def reach(self, name: str, state: CursorState, *, partition: int = 0) -> None:
        """A cursor of one of two partitions."""
        source = Source(partition, b"t" * 16)
        found = self.store.cursors([name])[0].get(source) or Cursor(b"o", -1, partitions=2)
        after = replace(found, next_offset=found.next_offset + 1, state=state)
        assert self.store.write([Write(name, source, found, after, [b"k"], [b"f"])]) == [True]

    def live(self, *names: str) -> None:
        for name in names:
            for partition in (0, 1):
                self.reach(name, CursorState.LIVE, partition=partition)

    def served(self) -> list[str]:
        document = self.store.get_document("service:risk")
        assert document is not None
        return [f"{name}@{version}" for name, version in document["views"]]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def folded(rollout: Rollout) -> set[str]:
    return set(map(named, rollout.step()))


def model_event(name: str, *, version: int = 1, expects: str | None = None) -> ModelEvent:
    """A publication that names a view."""
    view, _, spec_hash = name.rpartition("@")
    service = msgspec.structs.replace(SERVICE, views=[ViewRef(name=view, spec_hash=spec_hash, keys=["user"])])
    return published(f"e{version}", version, expects=expects, service=service)


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
    scene.log.put(DEFINITIONS, None, b"{")
    scene.log.put(DEFINITIONS, None, b'{"type":"deployed","format":99}')
    scene.log.put(MODELS, b"m", b"{")
    assert folded(worker) == {OLD_NAME}
    with pytest.raises(NewerFormatError, match="upgrade"):
        decode(b'{"type":"deployed","format":99}')
    with pytest.raises(CodecError):
        decode(b"{")


def test_the_bytes_of_a_deployment_stay_readable() -> None:
    golden = (
        b'{"type":"deployed","id":"d1","namespace":"here","expects":null,"views":[{"view":"v"}],'
        b'"services":[{"service":"s"}],"at_us":7,"format":1}'
    )
    deployed = Deployed(
        id="d1", namespace="here", expects=None, views=[{"view": "v"}], services=[{"service": "s"}], at_us=7
    )
    retired = ViewsRetired(namespace="here", expects="d1", views=["v@1"], at_us=8)
    assert (msgspec.json.encode(deployed), decode(golden)) == (golden, deployed)
    golden = b'{"type":"views_retired","namespace":"here","expects":"d1","views":["v@1"],"at_us":8,"format":1}'
    assert (msgspec.json.encode(retired), decode(golden)) == (golden, retired)


def test_a_view_that_wants_more_of_a_stream_than_the_worker_reads_is_left_alone(scene: Scene) -> None:
    newer = msgspec.json.decode(msgspec.json.encode(NEW.spec))
    newer["source"]["fields"].append({"name": "new", "kind": "int", "many": False, "nullable": True})
    worker = scene.worker(OLD)
    scene.log.append(
        Deployed(id="x", namespace="here", expects=worker.deployment.id, views=[OLD.spec, newer], services=[], at_us=3)
    )
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
    assert scene.store.get_document(f"view:{OLD_NAME}") == OLD.spec
    assert scene.store.get_document(f"view:{NEW_NAME}") == NEW.spec


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
    assert not any(view == OLD_NAME for view, _ in scene.store._fields)
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
    assert scene.store.get_document(f"view:{OLD_NAME}") == OLD.spec
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


def test_a_plan_says_what_changes_and_which_old_versions_stay_and_why(scene: Scene) -> None:
    worker = scene.worker(OLD)
    state, wanted = worker.deployment, [NEW.spec, OTHER.spec]
    in_force = {"risk": service(OLD)}
    plan = make_plan(state, wanted, [service(NEW, OTHER)], models={}, in_force=in_force, live={})
    told = {(line.kind, line.name, line.action): line for line in plan.lines}
    assert set(told) == {
        ("view", "user", "changed"), ("view", "user", "kept"), ("view", "other", "added"),
        ("service", "risk", "changed"),
    }  # fmt: skip
    changed = told["view", "user", "changed"]
    assert (changed.before, changed.after) == (OLD.version, NEW.version)
    assert changed.what == ["+ window 1d", "+ feature cents"]
    assert told["service", "risk", "changed"].what == ["+ other", f"user {OLD.version} → {NEW.version}"]
    assert told["view", "user", "kept"].why == ["service risk, until it has gone over"]
    assert (plan.is_deployed, plan.is_live, plan.expects) == (False, False, worker.deployment.id)
    models = {OLD_NAME: ["m 1"]}
    kept = make_plan(state, wanted, [service(NEW)], models=models, in_force={"risk": service(NEW)}, live={}).lines[-1]
    assert (kept.action, kept.why) == ("kept", ["model m 1"])
    gone = make_plan(state, wanted, [service(NEW)], models={}, in_force={"risk": service(NEW)}, live={}).lines[-1]
    assert (gone.action, gone.before) == ("retires", OLD.version)


def test_a_service_that_makes_other_features_on_demand_goes_over_at_once(scene: Scene) -> None:
    worker = scene.worker(OLD)
    scene.live(OLD_NAME)
    wanted = made(more=col("user__n_1h") + 1)
    scene.log.append(
        Deployed(id="x", namespace="here", expects=worker.deployment.id, views=[OLD.spec], services=[wanted], at_us=3)
    )
    worker.step()
    found = scene.store.get_document("service:risk")
    assert found == wanted | {"deployment": 2}


def made(request: dict[str, Any] | None = None, **on_demand: Expression) -> dict[str, Any]:
    return FeatureService("risk", [OLD], on_demand, request or {}).spec


def test_a_plan_says_what_a_service_makes_otherwise_on_demand(scene: Scene) -> None:
    state = scene.worker(OLD).deployment
    n = col("user__n_1h")
    both = {"more": n + 1, "dear": col("price") > n}

    def told(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
        deployed = replace(state, current=msgspec.structs.replace(state.current, services=[before]))  # type: ignore[type-var]
        (line,) = (
            line
            for line in make_plan(deployed, [OLD.spec], [after], models={}, in_force={"risk": before}, live={}).lines
            if line.kind == "service"
        )
        assert (line.action, line.live) == (("unchanged", True) if before == after else ("changed", None))
        return line.what

    price = {"price": float}
    assert told(service(OLD), made(price, **both)) == [
        "+ request value price", "+ on-demand feature more", "+ on-demand feature dear",
    ]  # fmt: skip
    assert told(made(price, **both), made(more=n + 2)) == [
        "- request value price", "- on-demand feature dear", "on-demand feature more: value",
    ]  # fmt: skip
    assert told(made(price, **both), made(price, **dict(reversed(both.items())))) == ["order of on-demand features"]
    assert told(made(more=n), made(more=n)) == []
    in_force = {"risk": service(OLD)}
    deployed = replace(state, current=msgspec.structs.replace(state.current, services=[made(more=n)]))  # type: ignore[type-var]
    line = make_plan(deployed, [OLD.spec], [made(more=n)], models={}, in_force=in_force, live={}).lines[-1]
    assert (line.kind, line.action, line.live) == ("service", "unchanged", False)


def test_a_plan_of_what_is_deployed_changes_nothing_and_says_whether_it_is_live(scene: Scene) -> None:
    state = scene.worker(OLD).deployment
    plans = [
        make_plan(state, [OLD.spec], [service(OLD)], models={}, in_force={"risk": service(OLD)}, live={OLD_NAME: live})
        for live in (False, True)
    ]
    assert [plan.is_deployed for plan in plans] == [True, True]
    assert [plan.is_live for plan in plans] == [False, True]
    assert {line.action for line in plans[0].lines} == {"unchanged"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"windows": ["6h"]}, ["+ window 6h", "- window 1h"]),
        ({"features": {"n": Sum("cents")}}, ["feature n: aggregate count → sum, value"]),
        ({"max_age": "2d"}, ["max_age none → 2d"]),
        ({"history": "20m"}, ["history 0ms → 20m"]),
        ({"clock": "stream"}, ["clock wall → stream"]),
        ({"source": payments("u")}, ["stream t.payments → u.payments"]),
        ({"entity": Entity("cents", int)}, ["entity user:str → cents:int"]),
    ],
)
def test_changes_are_told_in_words(change: dict[str, Any], told: list[str]) -> None:
    assert changes(OLD.spec, replace(OLD, **change).spec) == told
