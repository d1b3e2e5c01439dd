"""What the tests of deployments share: a stream with several versions of its view, and workers that follow the log."""

from __future__ import annotations

import multiprocessing
import signal
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer
from redis import Redis

from headrace.base.failpoints import arm
from headrace.base.times import utc_datetime, wall_clock
from headrace.bus.source_partition import SourcePartition
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.aggregates import Count, Max, Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.online.cursor import is_live
from headrace.features.online.redis.redis_store import RedisOnlineStore
from headrace.serving.features import FeatureClient
from headrace.streams.deployments.deployment import Deployed
from headrace.streams.deployments.kafka_deployment_log import KafkaDeploymentLog
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.plane.plane_config import PlaneConfig
from headrace.streams.worker import follow_deployments, make_topics
from tests.support.crash.definitions import PARTITIONS, USERS, Produced, Till, payments
from tests.support.processes import end_with_the_test_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.process import BaseProcess
    from pathlib import Path

    from headrace.app.local.services import LocalServices

PROCESSES = multiprocessing.get_context("forkserver")
GRACE_S, DROP_S = 2.0, 1.0
CATCH_UP_ROWS = 500


def version(namespace: str, number: int, name: str = "user") -> FeatureView:
    """1 counts and adds up; 2 has another window too, and the largest above a bound."""
    features: dict[str, Any] = {"n": Count(), "cents": Sum("cents")}
    if number > 1:
        features["most"] = Max("cents", where=col("cents") > number * 100)
    windows = ["1h"] if number == 1 else ["1h", "1d"]
    return FeatureView(name, Entity("user", str), payments(namespace), windows, features, history="20m")


def service(*views: FeatureView) -> FeatureService:
    """What look-ups ask for by name."""
    return FeatureService("risk", views)


@dataclass(frozen=True)
class Setting:
    """What a worker process is given."""

    bootstrap_servers: str
    redis_url: str
    event_log: str
    namespace: str
    first: int = 1
    failpoint: str | None = None
    slice_pause_s: float = 0.0


def work(setting: Setting) -> None:
    """A worker as `headrace worker` runs it, with small pieces and short waits."""
    end_with_the_test_run()
    arm(setting.failpoint)
    store = RedisOnlineStore(setting.redis_url, setting.namespace)
    streams = [payments(setting.namespace)]
    view = version(setting.namespace, setting.first)
    rollout = follow_deployments(
        setting.bootstrap_servers, setting.namespace, streams, store, grace_s=GRACE_S, drop_after_s=DROP_S
    )
    rollout.begin([view.spec], [service(view).spec])
    config = PlaneConfig(
        setting.bootstrap_servers,
        group=f"{setting.namespace}-workers",
        namespace=setting.namespace,
        worker=f"{setting.namespace}-worker-{uuid.uuid4().hex[:8]}",
        batch_rows=500,
        flush_s=0.1,
        heartbeat_s=0.2,
        catch_up_rows=CATCH_UP_ROWS,
        catch_up_pause_s=setting.slice_pause_s,
    )
    plane = DataPlane(config, streams, rollout, store, EventLog(setting.event_log))
    signal.signal(signal.SIGTERM, lambda *_: plane.stop())
    plane.run()


class Scene:
    """One stream with its log, its namespace and its workers."""

    def __init__(self, services: LocalServices, namespace: str, folder: Path) -> None:
        self.namespace, self.till = namespace, Till(5)
        self.setting = Setting(services.bootstrap_servers, services.redis_url, str(folder), namespace)
        self.topic = payments(namespace).topic
        make_topics(services.bootstrap_servers, [payments(namespace)], PARTITIONS, namespace=namespace, replay=True)
        self.store = RedisOnlineStore(services.redis_url, namespace)
        self.redis = Redis.from_url(services.redis_url)
        self.log = EventLog(folder)
        self.client = FeatureClient(self.store)
        self._changes = KafkaDeploymentLog(services.bootstrap_servers, namespace)
        self._producer = Producer({"bootstrap.servers": services.bootstrap_servers, "enable.idempotence": True})
        self.workers: list[BaseProcess] = []

    def start(self, **changes: Any) -> BaseProcess:
        """Start a worker."""
        worker = PROCESSES.Process(target=work, args=(replace(self.setting, **changes),))
        worker.start()
        self.workers.append(worker)
        return worker

    def produce(self, count: int) -> None:
        """Produce the next records and wait for the broker."""
        for record in self.till.take(count):
            self._producer.produce(
                self.topic, record.value, b"k", partition=record.partition, timestamp=record.timestamp_ms
            )
        assert self._producer.flush(30) == 0

    def deploy(self, *views: FeatureView) -> None:
        """What `headrace apply` publishes."""
        expects = self._changes.read().id
        deployed = Deployed(
            id=uuid.uuid4().hex, namespace=self.namespace, expects=expects, views=[view.spec for view in views],
            services=[service(*views).spec], at_us=wall_clock(),
        )  # fmt: skip
        self._changes.append(deployed)

    def view(self, number: int, name: str = "user") -> FeatureView:
        """A version of the view."""
        return version(self.namespace, number, name)

    def name(self, number: int, name: str = "user") -> str:
        """Its ``name@version``."""
        view = self.view(number, name)
        return f"{view.name}@{view.version}"

    def positions(self, number: int, name: str = "user") -> list[int]:
        """How far its cursors are, by partition."""
        found = {s.partition: c.next_offset for s, c in self.store.cursors([self.name(number, name)])[0].items()}
        return [found.get(partition, 0) for partition in range(PARTITIONS)]

    def is_live(self, number: int, name: str = "user") -> bool:
        """Whether it has caught up."""
        return is_live(self.store.cursors([self.name(number, name)])[0])

    def is_at_end(self, number: int) -> bool:
        """Whether it is live and has folded all that was produced."""
        return self.is_live(number) and self.positions(number) == self.till.ends()

    def logged(self) -> bool:
        """Whether the event log has all that was produced."""
        if not self.log.exists(self.topic):
            return False
        return self.log.read(self.topic).height == sum(self.till.ends())

    def keys(self, name: str) -> int:
        """How many keys Redis has of a view."""
        prefix = f"hr:{{0}}:{self.namespace}:{name}:*"
        return sum(1 for _ in self.redis.scan_iter(match=prefix.encode(), count=1_000))

    def rows_total(self, number: int) -> int:
        """How many rows its cursors say were folded."""
        return sum(cursor.rows_total for cursor in self.store.cursors([self.name(number)])[0].values())

    def check(self, number: int) -> None:
        """Every value is that of a plain loop over the rows below the V that the answer names."""
        found = self.client.get_views(
            self.name(number), [{"user": user} for user in USERS], as_of=utc_datetime(self.till.end_us)
        )
        check_rows(self.till.produced, found.to_dicts(), [found.offsets(row)["user"] for row in range(found.rows)],
                   number, self.till.end_us)  # fmt: skip

    def close(self) -> None:
        """Kill what is left."""
        for worker in self.workers:
            worker.kill()
            worker.join()
        self.store.close()
        self.redis.close()


def check_rows(
    produced: Sequence[Produced],
    values: Sequence[dict[str, Any]],
    offsets: Sequence[Any],
    number: int,
    at_us: int,
) -> None:
    """The look-up's rows, one a user, are those of a version of the view at its own V."""
    wanted: dict[tuple[int, ...], dict[str, dict[str, Any]]] = {}
    for user, found, of_user in zip(USERS, values, offsets, strict=True):
        by_partition = {SourcePartition.from_text(text).partition: at for text, at in of_user.items()}
        below = tuple(by_partition.get(partition, 0) for partition in range(PARTITIONS))
        if below not in wanted:
            wanted[below] = naive(produced, below, number, at_us)
        assert found == wanted[below][user], (user, below)


HOUR = 3_600_000_000
WINDOWS = {"1h": (HOUR, 60_000_000), "1d": (24 * HOUR, 1_800_000_000)}


def naive(produced: Sequence[Produced], below: Sequence[int], number: int, at_us: int) -> dict[str, dict[str, Any]]:
    """The columns of a version for every user, by a loop over what was produced."""
    rows: dict[str, list[tuple[int, int]]] = {user: [] for user in USERS}
    for record in produced:
        event = record.event
        if event is not None and record.offset < below[record.partition]:
            rows[event["user"]].append((event["at"], event["cents"]))
    return {user: _columns(of_user, number, at_us) for user, of_user in rows.items()}


def _columns(rows: Sequence[tuple[int, int]], number: int, at_us: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for window in ["1h"] if number == 1 else ["1h", "1d"]:
        length, tile = WINDOWS[window]
        cents = [c for at, c in rows if at_us // tile - length // tile < at // tile <= at_us // tile]
        found |= {f"user__n_{window}": len(cents), f"user__cents_{window}": sum(cents)}
        if number > 1:
            found[f"user__most_{window}"] = max((c for c in cents if c > number * 100), default=None)
    return found
