"""The four sentences of the page *Now*: complete, fresh, learning, applied.

A sentence is ``ok`` only if somebody has said so lately. Where nobody has, it is ``unknown`` since a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from headrace.app.snapshot.snapshot import NowSentence, NowSentences
from headrace.base.times import SECOND, said_minute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from headrace.app.snapshot.snapshot import (
        ApplicationNow,
        CheckNow,
        ModelNow,
        NowMark,
        PartitionNow,
        TrainerNow,
        ViewNow,
    )

_LAG_S = 10
_FAILED_IN_A_ROW = 2
_SWAP_US = 60 * SECOND


@dataclass(frozen=True)
class Told:
    """The parts of a snapshot at ``now_us``, to be judged. The reader has listened since ``begun_us``."""

    partitions: Sequence[PartitionNow]
    views: Sequence[ViewNow]
    models: Sequence[ModelNow]
    trainers: Sequence[TrainerNow]
    applications: Sequence[ApplicationNow]
    checks: Sequence[CheckNow]
    now_us: int
    begun_us: int


def judged(told: Told) -> NowSentences:
    """Return the sentences: of each the first that applies, the worst one first."""
    reports = [each.observed_us for each in told.partitions]
    ticks = [each.observed_us for each in told.trainers]
    beats = [each.observed_us for each in told.applications]
    return NowSentences(
        complete=_timed(next(_complete(told)), reports),
        fresh=_timed(next(_fresh(told)), reports),
        learning=_timed(next(_learning(told)), ticks),
        applied=_timed(next(_applied(told)), beats),
    )


def _timed(sentence: NowSentence, times: Iterable[int | None]) -> NowSentence:
    """Return a sentence with the oldest time of what it rests on."""
    return msgspec.structs.replace(sentence, told_us=min((us for us in times if us is not None), default=None))


def _complete(told: Told) -> Iterator[NowSentence]:
    yield from _unheard(told)
    partitions = told.partitions
    stopped = [each for each in partitions if each.stopped is not None]
    for each in stopped:
        where = f"{each.topic} {each.partition}: {each.stopped}"
        yield _said("error", f"{_count(stopped, 'partition')} stopped: {where}")
    unowned = [f"{each.topic} {each.partition}" for each in partitions if each.observed_us is None or each.is_silent]
    if unowned:
        yield _said("error", f"{_count(unowned, 'partition')} without a worker: {_names(unowned)}")
    for check in told.checks:
        if check.check == "audit" and check.severity == "error":
            yield _said("error", f"the audit of {check.subject} found differences at {said_minute(check.at_us)}")
    unlogged = sum(each.unlogged or 0 for each in partitions)
    yield _said("ok", f"{_all(partitions, 'partition')} read; {unlogged:,} records are not in the event log yet")


def _fresh(told: Told) -> Iterator[NowSentence]:
    yield from _unheard(told)
    views, partitions = told.views, told.partitions
    if not views:
        yield _said("unknown", "no worker folds a view", told.begun_us)
    stale = [each for each in views if each.is_silent]
    for view in sorted(stale, key=lambda each: each.observed_us):
        yield _said("error", f"{_count(stale, 'view')} not reported: {view.view}", view.observed_us)
    catching = [each for each in views if each.catching_up]
    for view in sorted(catching, key=lambda each: -each.behind):
        yield _said("warning", f"{_count(catching, 'view')} catching up: {view.view}, {view.behind:,} records behind")
    late = [each for each in partitions if (each.lag or 0) > _LAG_S * max(each.rate or 0.0, 1.0)]
    for part in sorted(late, key=lambda each: -(each.lag or 0)):
        where = f"{part.topic} {part.partition}, {part.lag:,} records"
        yield _said("warning", f"{_count(late, 'partition')} more than {_LAG_S} s behind: {where}")
    if any(each.lag is None and each.stopped is None for each in partitions if each.observed_us is not None):
        yield _said("unknown", "a worker has not told how far it is behind", told.begun_us)
    left = sum(each.lag or 0 for each in partitions)
    yield _said("ok", f"{_all(views, 'view')} up to date; {left:,} records wait to be read")


def _learning(told: Told) -> Iterator[NowSentence]:
    yield from _unjudged(told)
    for each in told.models:
        if each.run is not None:
            yield _said("ok", f"{each.model} is trained: {each.run.phase}, because of {each.run.rule}")
    nearest = max(told.models, key=lambda each: each.progress or 0.0)
    if nearest.progress is None:
        yield _said("ok", "no rule was judged yet")
    yield _said("ok", f"nearest to a new version: {nearest.model}, {nearest.held} at {nearest.progress or 0:.0%}")


def _unjudged(told: Told) -> Iterator[NowSentence]:
    """Yield what keeps models from being judged or trained."""
    models, heard = told.models, [each for each in told.trainers if not each.is_silent]
    if not models:
        yield _said("unknown", "no model is known", told.begun_us)
    if not heard:
        since_us = max((each.observed_us for each in told.trainers), default=told.begun_us)
        yield _said("unknown", "no trainer reports", since_us)
    for each in models:
        if _fails(each):
            yield _said("error", f"the last runs of {each.model} failed: {each.runs[0].reason}")
    for each in models:
        if each.error is not None:
            yield _said("error", f"the rules of {each.model} cannot be judged: {each.error}")
    left = [each.model for each in models if not any(each.model in trainer.models for trainer in heard)]
    if left:
        yield _said("warning", f"no trainer has {_names(left)}")


def _applied(told: Told) -> Iterator[NowSentence]:
    heard = [each for each in told.applications if not each.is_silent]
    if not any(each.version is not None for each in told.models):
        yield _said("unknown", "no version is live", told.begun_us)
    behind = [each for each in heard if each.version != each.live]
    for each in behind:
        if each.since_us is None or told.now_us - each.since_us > _SWAP_US:
            why = f": {each.error}" if each.error else ""
            has = f"{each.application} answers with {_version(each)} of {each.model}"
            yield _said("error", f"{has}, {each.live} is live{why}")
    for each in behind:
        yield _said("warning", f"{each.application} swaps to version {each.live} of {each.model}")
    if not heard:
        since_us = max((each.observed_us or 0 for each in told.applications), default=0) or told.begun_us
        yield _said("unknown", f"no application reports{_acknowledged(told.applications)}", since_us)
    yield _said("ok", f"{_all(heard, 'application')} on the live version")


def _acknowledged(applications: Sequence[ApplicationNow]) -> str:
    """Return who acknowledged last: that is no heartbeat."""
    found = [(each.acknowledged_us, each) for each in applications if each.acknowledged_us is not None]
    if not found:
        return ""
    at_us, last = max(found, key=lambda each: each[0])
    return f"; {last.application} acknowledged {_version(last)} of {last.model} on {said_minute(at_us)}"


def _unheard(told: Told) -> Iterator[NowSentence]:
    """Yield what is said if no worker reports."""
    if not any(each.observed_us is not None and not each.is_silent for each in told.partitions):
        heard = [each.observed_us for each in told.partitions if each.observed_us is not None]
        yield _said("unknown", "no worker reports", max(heard, default=told.begun_us))


def _fails(model: ModelNow) -> bool:
    last = [run.outcome for run in model.runs[:_FAILED_IN_A_ROW]]
    return len(last) == _FAILED_IN_A_ROW and set(last) == {"failed"}


def _version(each: ApplicationNow) -> str:
    return "no version" if each.version is None else f"version {each.version}"


def _count(found: Sequence[object], what: str) -> str:
    return f"{len(found)} {what}{'' if len(found) == 1 else 's'}"


def _all(found: Sequence[object], what: str) -> str:
    return f"the only {what} is" if len(found) == 1 else f"all {len(found)} {what}s are"


def _names(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _said(mark: NowMark, said: str, since_us: int | None = None) -> NowSentence:
    return NowSentence(mark=mark, said=said, since_us=since_us)
