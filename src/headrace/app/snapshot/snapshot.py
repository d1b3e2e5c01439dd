"""A snapshot of a deployment. Each part has the time of what it rests on; what nobody has told is null, never 0."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

FORMAT = 1
NowMark = Literal["ok", "warning", "error", "unknown"]
"""``unknown``: nobody has said it lately. It is never ``ok`` without a report or a heartbeat."""


class NowSentence(msgspec.Struct, frozen=True, kw_only=True):
    """One of the four answers of the page *Now*, with its mark. ``since_us`` is the time since when it is unknown.

    ``told_us`` is the time of the oldest message that it rests on; null if there is none.
    """

    mark: NowMark
    said: str
    since_us: int | None = None
    told_us: int | None = None


class NowSentences(msgspec.Struct, frozen=True, kw_only=True):
    """Complete: every partition is read. Fresh: views are near now. Learning: triggers are judged. Applied: swapped."""

    complete: NowSentence
    fresh: NowSentence
    learning: NowSentence
    applied: NowSentence


class HeardTopic(msgspec.Struct, frozen=True, kw_only=True):
    """A control topic: the time of its newest record, null if none was read, and why it cannot be read."""

    topic: str
    record_us: int | None
    error: str | None


class PartitionNow(msgspec.Struct, frozen=True, kw_only=True):
    """A partition of a stream, by the newest report of the worker that has it.

    ``observed_us`` is null if no worker has told of it: then nothing else is known. ``is_silent``: the worker has sent
    no report lately, so the numbers are old. ``lag`` is the records of the topic that are not consumed, ``unlogged``
    those that are consumed and not in the event log, ``rate`` the records consumed in a second.
    """

    topic: str
    partition: int
    observed_us: int | None = None
    is_silent: bool = False
    worker: str | None = None
    lag: int | None = None
    unlogged: int | None = None
    rate: float | None = None
    available_us: int | None = None
    rejected: int | None = None
    late: int | None = None
    stopped: str | None = None


class ViewNow(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a view, over all of its partitions.

    ``clock_us`` is the least partition clock, ``behind`` the consumed records that are not folded. ``observed_us`` is
    the time of the oldest report in it. ``entities`` and ``bytes`` are those in the memory of workers.
    """

    view: str
    observed_us: int
    is_silent: bool
    catching_up: bool
    behind: int
    clock_us: int | None
    rate: float | None
    entities: int | None
    bytes: int | None


class RuleNow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rule of a model was from firing when it was judged last: 0 to 1, with the reason."""

    rule: str
    fired: bool
    progress: float
    reason: str


class RunNow(msgspec.Struct, frozen=True, kw_only=True):
    """A run under way, as its trainer told at ``observed_us``."""

    request_id: str
    rule: str
    reason: str
    phase: str
    started_us: int
    phase_us: int
    observed_us: int


class RunBefore(msgspec.Struct, frozen=True, kw_only=True):
    """A run that ended at ``t_us`` on the clock of the decisions."""

    request_id: str
    outcome: str
    rule: str
    reason: str
    t_us: int
    version: int | None


class VersionNow(msgspec.Struct, frozen=True, kw_only=True):
    """A published version, with the gain of its gate and the bounds of it; null if it was not compared."""

    version: int
    status: str
    at_us: int
    rule: str
    reason: str
    metric: str | None = None
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None


class ModelNow(msgspec.Struct, frozen=True, kw_only=True):
    """A model: what is live, what the rules say, and the run under way.

    ``judged_us`` is the t of the last decision, on the clock of the decisions, and ``decided_us`` the time of its
    record. ``held`` is the hold or the rule of it with its ``reason``.
    """

    model: str
    version: int | None = None
    since_us: int | None = None
    pinned: str | None = None
    waiting: int | None = None
    decided_us: int | None = None
    judged_us: int | None = None
    held: str | None = None
    reason: str | None = None
    progress: float | None = None
    rules: list[RuleNow] = []
    run: RunNow | None = None
    runs: list[RunBefore] = []
    versions: list[VersionNow] = []
    error: str | None = None


class ApplicationNow(msgspec.Struct, frozen=True, kw_only=True):
    """An application's version of a model.

    ``version`` is what it said last: in a heartbeat at ``observed_us``, or else in an acknowledgement at
    ``acknowledged_us``, which is no heartbeat. ``is_silent`` says that no heartbeat came lately. ``since_us`` is the
    time since when another version is live; null if it has the live one. ``rate`` is predictions in a second.
    """

    application: str
    model: str
    version: int | None
    live: int | None
    observed_us: int | None
    acknowledged_us: int | None
    is_silent: bool
    since_us: int | None
    rate: float | None
    error: str | None


class TrainerNow(msgspec.Struct, frozen=True, kw_only=True):
    """A trainer process by its newest heartbeat."""

    process: str
    observed_us: int
    is_silent: bool
    models: list[str]
    ticked_us: int | None


class CheckNow(msgspec.Struct, frozen=True, kw_only=True):
    """The newest result of a check, such as an audit. ``overdue``: the next one should have come."""

    check: str
    subject: str
    at_us: int
    severity: str
    overdue: bool
    numbers: dict[str, float]
    findings: list[dict[str, Any]]


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A whole deployment at ``at_us``, on the clock of the process that reads. Times are microseconds UTC."""

    format: int = FORMAT
    namespace: str
    at_us: int
    begun_us: int
    now: NowSentences
    partitions: list[PartitionNow]
    views: list[ViewNow]
    models: list[ModelNow]
    applications: list[ApplicationNow]
    trainers: list[TrainerNow]
    checks: list[CheckNow]
    topics: list[HeardTopic]


def encode(snapshot: Snapshot | NowSentence) -> bytes:
    """Return the JSON bytes.

    >>> encode(NowSentence(mark="unknown", said="no report"))
    b'{"mark":"unknown","said":"no report","since_us":null,"told_us":null}'
    """
    return msgspec.json.encode(snapshot)
