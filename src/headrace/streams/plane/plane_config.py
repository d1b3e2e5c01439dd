"""The settings of a data plane, and its clocks, randomness and ids."""

from __future__ import annotations

import random
import time
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.base.times import Clock, wall_clock
from headrace.bus.control_topics import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace.bus.schemas.schema_store import SchemaStore


def _new_owner() -> bytes:
    return uuid.uuid4().bytes


@dataclass(frozen=True)
class PlaneConfig:
    """The settings of a data plane; durations in seconds, bounds in rows.

    ``flush_rows``: this number of unflushed rows of a stream begins a commit before ``flush_s`` is over.
    ``most_pending``: with this number of unflushed rows, nothing more is read until they are committed.
    ``catch_up_rows``: how many rows of the log are read at a time.
    ``catch_up_pause_s``: the pause after each slice of a catch-up. More than 0 leaves more of the machine to others.
    ``reacquire_s``, ``reacquire_most_s``: the first and the longest wait before a partition is tried again.
    """

    bootstrap_servers: str
    group: str = "headrace-worker"
    worker: str = "worker"
    namespace: str = DEFAULT_NAMESPACE
    batch_rows: int = 20_000
    poll_s: float = 0.02
    flush_s: float = 1.0
    flush_rows: int = 200_000
    most_pending: int = 1_000_000
    heartbeat_s: float = 1.0
    catch_up_rows: int = 200_000
    catch_up_pause_s: float = 0.0
    reacquire_s: float = 0.2
    reacquire_most_s: float = 5.0
    memory_bytes: int = 1 << 30


@dataclass(frozen=True)
class PlaneEnvironment:
    """Clocks, randomness, new ids and schemas: all that does not follow from the records.

    ``monotonic`` returns seconds, ``clock`` microseconds since the epoch, ``chance`` numbers in [0, 1) for the jitter
    of retries, ``new_owner`` a new id for each acquisition. ``schemas`` are a schema registry's.
    """

    monotonic: Callable[[], float] = time.monotonic
    clock: Clock = wall_clock
    chance: Callable[[], float] = random.random
    new_owner: Callable[[], bytes] = _new_owner
    schemas: SchemaStore | None = None
