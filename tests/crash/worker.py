"""A worker's data plane in a process of its own, that a test may kill."""

from __future__ import annotations

import signal
import time
import uuid
from dataclasses import dataclass

from headrace.features.log import EventLog
from headrace.features.redis_store import RedisOnlineStore
from headrace.streams.failpoints import arm
from headrace.streams.plane import DataPlane, PlaneConfig
from headrace.streams.worker import publish_definitions
from tests.crash.definitions import payments, service, users


@dataclass(frozen=True)
class Setting:
    """What a worker process is given."""

    bootstrap_servers: str
    redis_url: str
    event_log: str
    namespace: str
    group: str
    failpoint: str | None = None
    batch_rows: int = 500
    flush_s: float = 0.1
    catch_up_rows: int = 700


def work(setting: Setting) -> None:
    """Run until SIGTERM or death."""
    arm(setting.failpoint)
    namespace = setting.namespace
    store = RedisOnlineStore(setting.redis_url, namespace)
    plane = DataPlane(
        PlaneConfig(
            setting.bootstrap_servers,
            group=setting.group,
            worker=uuid.uuid4().hex,
            batch_rows=setting.batch_rows,
            flush_s=setting.flush_s,
            catch_up_rows=setting.catch_up_rows,
        ),
        [payments(namespace)],
        [users(namespace).spec],
        store,
        EventLog(setting.event_log),
        new_owner=lambda: uuid.uuid4().bytes,
        monotonic=time.monotonic,
        publish=lambda: publish_definitions(store, [users(namespace)], [service(namespace)]),
    )
    signal.signal(signal.SIGTERM, lambda *_: plane.stop())
    plane.run()
