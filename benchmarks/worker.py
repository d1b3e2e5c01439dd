"""The measured process: a real worker, or its floor, which consumes and decodes to columns and does nothing else.

usage: python -m benchmarks.worker TASK     (a JSON :class:`Task`; started by the benchmarks)
"""

from __future__ import annotations

import cProfile
import gc
import sys
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from headrace.app.terminal.logs import configure_logs
from headrace.bus.codec import Decoder
from headrace.bus.consumer import BatchConsumer
from headrace.streams.plane.data_plane import DataPlane
from headrace.streams.worker import WorkerConfig, run_worker

from .definitions import Shape, payments, service, spending

if TYPE_CHECKING:
    from collections.abc import Sequence

    from confluent_kafka import Message

BATCH_ROWS = 20_000


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What to run where. ``folder`` is the process's own: reports, log and Faust's data."""

    kind: Literal["ingest", "decode"]
    servers: str
    redis_url: str
    folder: str
    event_log: str
    namespace: str
    topic: str
    events: int
    partitions: int
    shape: Shape = Shape()
    replay: bool = True
    profile: bool = False
    memory_mib: int = 1024


class Moment(msgspec.Struct, frozen=True):
    """A point of a run: monotonic seconds of the machine, and CPU seconds of the process so far.

    ``counted`` is for the last point of a peer: the sum of the counts of all windows that it finished.
    """

    at: float
    cpu: float
    counted: int = 0


def main(task: Task) -> None:
    """Run the task; a worker runs until a signal."""
    configure_logs("warning")
    announce_first(Path(task.folder))
    if task.kind == "decode":
        decode(task)
    else:
        work(task)


def work(task: Task) -> None:
    """A worker as `headrace worker` runs it."""
    stream = payments(task.topic)
    views = spending(stream, task.shape)
    config = WorkerConfig(
        task.servers,
        task.redis_url,
        task.event_log,
        str(Path(task.folder) / "faust"),
        namespace=task.namespace,
        partitions=task.partitions,
        batch_rows=BATCH_ROWS,
        replay=task.replay,
        memory_bytes=task.memory_mib << 20,
    )
    if task.profile:
        profile_plane(Path(task.folder))
    run_worker(config, [stream], views, [service(views)])


def decode(task: Task) -> None:
    """Consume and decode to columns, until all events were seen."""
    consumer = BatchConsumer(task.servers, f"bench-{uuid.uuid4().hex}")
    consumer.subscribe([task.topic], FromTheStart())
    decoder, seen = Decoder(payments(task.topic)), 0
    gc.collect()
    gc.freeze()
    while seen < task.events:
        messages = consumer.poll(BATCH_ROWS, 1.0)
        decoded, _, _ = decoder.decode([message.value() for message in messages])
        decoder.columns(decoded)
        seen += len(messages)
        if failures := consumer.failures():
            raise RuntimeError(str(failures))
    report(Path(task.folder), "last")
    consumer.close()


class FromTheStart:
    """Reads every partition from its beginning."""

    def assigned(self, _topic: str, _partition: int) -> int | None:
        """From offset 0."""
        return 0

    def revoked(self, _partitions: Sequence[tuple[str, int]]) -> None:
        """Nothing to finish."""

    lost = revoked


def announce_first(folder: Path) -> None:
    """Report when the first records are taken; from then on the consumer is as it was."""
    poll = BatchConsumer.poll

    def watched(self: BatchConsumer, count: int, timeout_s: float) -> list[Message]:
        messages = poll(self, count, timeout_s)
        if messages:
            report(folder, "first")
            BatchConsumer.poll = poll  # type: ignore[method-assign]
        return messages

    BatchConsumer.poll = watched  # type: ignore[method-assign]


def profile_plane(folder: Path) -> None:
    """Profile the data plane's thread; the result is written when it ends."""
    run = DataPlane.run

    def profiled(self: DataPlane) -> None:
        profiler = cProfile.Profile()
        try:
            profiler.runcall(run, self)
        finally:
            profiler.dump_stats(folder / "profile")

    DataPlane.run = profiled  # type: ignore[method-assign]


def report(folder: Path, name: str) -> None:
    """Tell the benchmark that this point was reached, and when."""
    draft = folder / f"{name}.draft"
    draft.write_bytes(msgspec.json.encode(Moment(time.monotonic(), time.process_time())))
    draft.replace(folder / name)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Task))
