"""What trainers and applications say of themselves every few seconds, on the topic ``heartbeats``.

A heartbeat is the state of a process, never an increment: a reader keeps the newest one of each process, and a process
that has said nothing for three times ``every_us`` is silent. Workers report on ``observations`` instead.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from headrace.base.times import SECOND, Instant
from headrace.bus import message
from headrace.bus.message import Int64

FORMAT = 1
EVERY_US = 5 * SECOND
"""The time between two heartbeats of a process."""
SILENT_AFTER = 3
"""A process is silent after so many intervals without a heartbeat."""
PHASES = ("begins", "training_set", "fit", "kept_fits", "gate", "refit", "register", "publish")
"""The phases of a run in their usual order, as ``RunEnded.seconds`` names its steps. Later releases may have others."""


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way: its request, the rule that asked, its phase, and since when it is in this phase.

    ``phase`` is one of :data:`PHASES`. ``started_us`` is the time at which this trainer took the request. After a crash
    another trainer begins it again, with the same ``request_id``.
    """

    request_id: str
    model: str
    rule: str
    reason: str
    started_us: Instant
    phase: str
    phase_us: Instant


class TrainerHeartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="trainer"):
    """A trainer process: its models, its last tick, and the run under way.

    ``models`` are those whose rules it evaluates. ``ticked_us`` is the time, on its own clock, at which it has done so
    last, and ``tick_us`` the time between two ticks; decisions have the t of each. Before the first tick, or if ticks
    come from outside, it is left out. ``run`` is left out if none is under way, and ``waiting`` are the ids of requests
    that this trainer has taken and not begun. ``stopped`` is true in the last heartbeat of a process that ends in
    order.
    """

    process: str
    release: str
    started_us: Instant
    observed_us: Instant
    every_us: Int64
    models: list[str]
    tick_us: Int64 | UnsetType = UNSET
    ticked_us: Instant | UnsetType = UNSET
    run: RunProgress | UnsetType = UNSET
    waiting: list[str] | UnsetType = UNSET
    stopped: bool | UnsetType = UNSET
    format: int = FORMAT


class ApplicationHeartbeat(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="application"):
    """One predictor in an application's process: the version that answers, and the version that should.

    ``version`` predicts now and ``wanted`` is live by the model events that the process has read; both are left out
    before the first one. ``event_id`` is the model event that made ``version`` live, and ``loaded_us`` the time since
    when it answers. ``error`` says why the two differ, or why the events are not read. ``predicted`` and ``failed``
    count requests since ``started_us``. ``stopped`` is true in the last heartbeat of a predictor that was closed.
    """

    process: str
    application: str
    release: str
    model: str
    started_us: Instant
    observed_us: Instant
    every_us: Int64
    predicted: Int64
    failed: Int64
    version: Int64 | UnsetType = UNSET
    event_id: str | UnsetType = UNSET
    loaded_us: Instant | UnsetType = UNSET
    wanted: Int64 | UnsetType = UNSET
    error: str | UnsetType = UNSET
    stopped: bool | UnsetType = UNSET
    format: int = FORMAT


Heartbeat = TrainerHeartbeat | ApplicationHeartbeat


def is_silent(heartbeat: Heartbeat, now_us: int) -> bool:
    """Return whether a process whose newest heartbeat this is has ended, or does not get through to Kafka.

    ``now_us`` is the reader's clock: it must not be behind that of the process by more than the interval.

    >>> beat = TrainerHeartbeat(
    ...     process="t", release="1", started_us=0, observed_us=5_000_000, every_us=5_000_000, models=[]
    ... )
    >>> is_silent(beat, now_us=20_000_000), is_silent(beat, now_us=20_000_001)
    (False, True)
    """
    return now_us - heartbeat.observed_us > SILENT_AFTER * heartbeat.every_us


def encode(heartbeat: Heartbeat) -> bytes:
    """Return the JSON bytes."""
    return msgspec.json.encode(heartbeat)


def decode(data: bytes | None) -> Heartbeat:
    """Return the heartbeat in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, Heartbeat, FORMAT, "a heartbeat")
