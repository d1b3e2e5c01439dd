"""Workers that roll deployments out, over a store and a log in memory, and the views that they deploy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.control_topics import ControlTopics
from headrace.bus.source_partition import SourcePartition
from headrace.features.definitions.aggregates import Count, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.store_documents import read_service, view_names
from headrace.features.definitions.view import FeatureView
from headrace.features.online.cursor import Cursor, CursorState
from headrace.features.online.memory_store import MemoryOnlineStore
from headrace.features.online.store import FencedWrite
from headrace.models.model_events import ModelEvent, ViewRef, encode
from headrace.streams.deployments.deployment import Deployed, DeploymentChange
from headrace.streams.deployments.deployment import encode as encode_change
from headrace.streams.deployments.rollout import Rollout, RolloutTimes
from tests.support.crash.definitions import payments
from tests.support.model_events import SERVICE, published

if TYPE_CHECKING:
    from headrace.features.definitions.expression import Expression
    from headrace.features.definitions.service_spec import ServiceSpec

TOPICS = ControlTopics("here")
STREAM = payments("t")
USER = Entity("user", str)
OLD = FeatureView("user", USER, STREAM, ["1h"], {"n": Count()})
NEW = FeatureView("user", USER, STREAM, ["1h", "1d"], {"n": Count(), "cents": Sum("cents")})
OTHER = FeatureView("other", USER, STREAM, ["1h"], {"n": Count()})
OLD_NAME, NEW_NAME, OTHER_NAME = (view.spec.versioned_name for view in (OLD, NEW, OTHER))


def service(*views: FeatureView) -> ServiceSpec:
    return FeatureService("risk", views).spec


class Log:
    """Both topics in memory, as several workers follow them."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    def append(self, change: DeploymentChange) -> None:
        self.put(TOPICS.definitions, None, encode_change(change))

    def put(self, topic: str, key: bytes | None, value: bytes, headers: Any = ()) -> None:
        self.messages.append(Message(topic, key, value, list(headers), len(self.messages)))

    def model_event(self, event: ModelEvent) -> None:
        record = encode(event)
        self.put(TOPICS.models, record.key, record.value, record.headers.items())


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

    def partition(self) -> int:
        return 0


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
            TOPICS.namespace, [STREAM], self.store, Tail(self.log), self.log.append,
            new_id=lambda: f"d{next(self.ids)}",
            times=RolloutTimes(lambda: 1, lambda: self.now, grace_s=60, drop_after_s=5),
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
        source = SourcePartition(partition, b"t" * 16)
        found = self.store.cursors([name])[0].get(source) or Cursor(b"o", -1, partitions=2)
        after = replace(found, next_offset=found.next_offset + 1, state=state)
        assert self.store.write([FencedWrite(name, source, found, after, [b"k"], [b"f"])]) == [True]

    def live(self, *names: str) -> None:
        for name in names:
            for partition in (0, 1):
                self.reach(name, CursorState.LIVE, partition=partition)

    def served(self) -> list[str]:
        document = self.store.get_document("service:risk")
        assert document is not None
        return view_names(read_service(document))


def folded(rollout: Rollout) -> set[str]:
    return {spec.versioned_name for spec in rollout.step()}


def model_event(name: str, *, version: int = 1, expects: str | None = None) -> ModelEvent:
    """A publication that names a view."""
    view, _, spec_hash = name.rpartition("@")
    service = msgspec.structs.replace(SERVICE, views=[ViewRef(name=view, spec_hash=spec_hash, keys=["user"])])
    return published(f"e{version}", version, expects=expects, service=service)


def made(request: dict[str, Any] | None = None, **on_demand: Expression) -> ServiceSpec:
    return FeatureService("risk", [OLD], on_demand, request or {}).spec
