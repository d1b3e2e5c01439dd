"""From producing an event to seeing it in a look-up, under a steady load."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from headrace import EventProducer, FeatureClient
from headrace.errors import DefinitionError
from headrace.streams.worker import make_topics

from .definitions import Payment, Shape, online_name, payments, spending
from .load import Load
from .results import quantiles
from .rig import PATIENCE_S, Child, console
from .workload import Workload, size

if TYPE_CHECKING:
    from headrace import Stream

    from .options import Options
    from .rig import Rig

WARM_UP_S, PAUSE_S, POLL_S = 5.0, 0.02, 0.0005


def run(rig: Rig, options: Options) -> dict[str, Any]:
    """A worker, a load beside it, and a prober that sends one marked event after the other."""
    live = Workload("live", 0)
    stream = payments(live.topic)
    task = rig.task("ingest", live, replay=False)
    make_topics(rig.servers, [stream], live.partitions, namespace=task.namespace)
    load = Load(servers=rig.servers, topic=live.topic, folder=task.folder, rate=options.rate)
    worker = Child(task)
    prober = Prober(rig, task.namespace, stream)
    try:
        prober.await_worker()
        generator = Child(load, module="benchmarks.load")
    except BaseException:
        worker.stop()
        raise
    try:
        prober.warm_up()
        with console.status(f"{options.seconds:.0f} s at {options.rate:,} events/s"):
            before = size(rig.servers, live.topic, live.partitions), worker.cpu(), time.monotonic()
            seen = prober.probe(options.seconds)
            after = size(rig.servers, live.topic, live.partitions), worker.cpu(), time.monotonic()
    finally:
        generator.stop()
        worker.stop()
    records, cpu, seconds = (late - early for early, late in zip(before, after, strict=True))
    found = quantiles(seen)
    console.print(
        f"  {len(seen):,} probes: p50 {found['p50_ms']} ms, p99 {found['p99_ms']} ms, max {found['max_ms']} ms"
    )
    return {
        "asked_events_per_s": options.rate,
        "events_per_s": round(records / seconds),
        "seconds": round(seconds, 1),
        "probes": len(seen),
        "visible": found,
        "look_up": quantiles(prober.look_ups),
        "worker_cpu_share": round(cpu / seconds, 3),
    }


class Prober:
    """Sends an event of a user of its own, and looks that user up until the event counts."""

    def __init__(self, rig: Rig, namespace: str, stream: Stream) -> None:
        self.look_ups: list[float] = []
        self._stream, self._view = stream, online_name(spending(stream, Shape())[0])
        self._producer = EventProducer(rig.servers, linger="0ms")
        self._client = FeatureClient.from_url(rig.redis_url, namespace)
        self._count = 0

    def await_worker(self) -> None:
        """Wait until the worker answers; the load begins after that, so that it has no arrears to make up for."""
        deadline = time.monotonic() + PATIENCE_S
        while not self._known():
            if time.monotonic() > deadline:
                raise RuntimeError(f"the worker has not begun after {PATIENCE_S:.0f} s")
            time.sleep(0.1)
        self._probe()

    def warm_up(self) -> None:
        """Probe for some seconds that do not count."""
        self.probe(WARM_UP_S)
        self.look_ups.clear()

    def probe(self, seconds: float) -> list[float]:
        """Seconds from producing to seeing, of one event after the other."""
        ends, seen = time.monotonic() + seconds, []
        while time.monotonic() < ends:
            seen.append(self._probe())
            time.sleep(PAUSE_S)
        return seen

    def _known(self) -> bool:
        try:
            return self._client.get_views(self._view, {"user_id": "nobody"}).rows == 1
        except DefinitionError:  # the worker has not put it there yet
            return False

    def _probe(self) -> float:
        user = f"probe-{self._count}"
        self._count += 1
        event = Payment(user, datetime.now(UTC), 1.0, "prober")
        started = time.perf_counter()
        self._producer.send(self._stream, event)
        while not self._sees(user):
            if time.perf_counter() - started > PATIENCE_S:
                raise RuntimeError(f"an event was not visible after {PATIENCE_S:.0f} s")
            time.sleep(POLL_S)
        return time.perf_counter() - started

    def _sees(self, user: str) -> bool:
        started = time.perf_counter()
        features = self._client.get_views(self._view, {"user_id": user})
        self.look_ups.append(time.perf_counter() - started)
        return bool(features.to_lists()[0][0])
