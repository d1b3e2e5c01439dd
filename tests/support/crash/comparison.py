"""What is online and in the event log, compared with a naive fold of what was produced."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.base.times import epoch_us
from tests.support.crash.definitions import HISTORY_US, PARTITIONS, USERS, naive

if TYPE_CHECKING:
    from headrace.serving.features import FeatureVectors
    from tests.support.crash.definitions import Produced
    from tests.support.crash.scene import Scene

_COLUMNS = ["__partition", "__offset", "__verdict", "__value", "user", "at", "cents"]


@dataclass(frozen=True)
class Comparison:
    """How many records were produced, and how many of them are missing in the log, stand there twice, or otherwise.

    ``values`` were compared online, of which ``mismatched`` are not those of the naive fold; ``miscounted``: what the
    cursors count too many or too few.
    """

    produced: int
    lost: int
    duplicated: int
    altered: int
    values: int
    mismatched: int
    miscounted: int

    @property
    def is_exact(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.lost or self.duplicated or self.altered or self.mismatched or self.miscounted)


def compare(scene: Scene) -> Comparison:
    """After :meth:`~tests.support.crash.scene.Scene.await_end`: everything, at several t."""
    produced = scene.till.produced
    lost, duplicated, altered = _log(scene)
    first, last = produced[0].timestamp_ms * 1_000, scene.till.end_us
    oldest = max(first + 5_000_000, last - HISTORY_US + 5_000_000)  # what is older has no answer
    times = (last, last + 45_000_000, (oldest + last) // 2, oldest)
    compared = [_online(scene, at_us) for at_us in times]
    cursors = scene.store.cursors([scene.view])[0].values()
    accepted = sum(not record.is_broken for record in produced)
    return Comparison(
        len(produced),
        lost,
        duplicated,
        altered,
        values=sum(values for values, _ in compared),
        mismatched=sum(mismatched for _, mismatched in compared),
        miscounted=abs(sum(cursor.rows_total for cursor in cursors) - accepted),
    )


def _log(scene: Scene) -> tuple[int, int, int]:
    """Rows lost, duplicated, and with another content than was produced."""
    wanted = {(record.partition, record.offset): _row(record) for record in scene.till.produced}
    found: Counter[tuple[int, int]] = Counter()
    altered = 0
    for partition, offset, *content in scene.log.read(scene.topic).select(_COLUMNS).iter_rows():
        found[partition, offset] += 1
        altered += _content(*content) != wanted.get((partition, offset))
    return len(wanted.keys() - found.keys()), sum(found.values()) - len(found), altered


def _content(verdict: str, value: bytes | None, *fields: object) -> tuple[object, ...]:
    """Of a rejected record its bytes, of another one its fields."""
    if verdict != "accepted":
        return (verdict, value)
    user, at, cents = fields
    return (verdict, value, user, round(at.timestamp() * 1e6), cents)  # type: ignore[attr-defined]


def _row(record: Produced) -> tuple[object, ...]:
    event = record.event
    if event is None:
        return ("rejected", record.value)
    return ("accepted", None, event["user"], event["at"], event["cents"])


def _online(scene: Scene, at_us: int) -> tuple[int, int]:
    """Values compared at t, and how many of them are not those of the naive fold of everything."""
    wanted = naive(scene.till.produced, scene.till.ends(), at_us)
    answers = dict(zip(USERS, scene.look_up(at_us).to_lists(), strict=True))
    pairs = [pair for user in USERS for pair in zip(answers[user], wanted[user], strict=True)]
    return len(pairs), sum(value != other for value, other in pairs)


def inconsistent(scene: Scene, found: FeatureVectors) -> list[object]:
    """The values that are not those of their own V, whatever that is: user, V, t, values, and what they should be."""
    produced = list(scene.till.produced)
    folds: dict[tuple[int, ...], dict[str, list[object]]] = {}
    wrong: list[object] = []
    for row, (user, values) in enumerate(zip(USERS, found.to_lists(), strict=True)):
        below = offsets(found, row)
        if below not in folds:
            folds[below] = naive(produced, list(below), epoch_us(found.at))
        if list(values) != list(folds[below][user]):
            wrong.append((user, below, epoch_us(found.at), values, folds[below][user]))
    return wrong


def least(found: FeatureVectors) -> list[int]:
    """V of each partition, the least of all users."""
    return [min(each) for each in zip(*(offsets(found, row) for row in range(found.rows)), strict=True)]


def offsets(found: FeatureVectors, row: int) -> tuple[int, ...]:
    """V of one user, by partition."""
    known = {int(text.rpartition("-")[2]): at for text, at in found.offsets(row)["user"].items()}
    return tuple(known.get(partition, 0) for partition in range(PARTITIONS))
