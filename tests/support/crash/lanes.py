"""Several scenes at once: each with a topic, a Redis, a disk and workers of its own, on one Kafka."""

from __future__ import annotations

import random
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.app.local.valkey import LocalValkey
from tests.support.crash.comparison import Comparison, compare, inconsistent
from tests.support.crash.disk import Disk
from tests.support.crash.faults import CATALOGUE
from tests.support.crash.scene import Scene
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ROWS_PER_S = 400


@dataclass(frozen=True)
class Lane:
    """One scene, with its share of the faults and its chance."""

    scene: Scene
    faults: Sequence[str]
    chance: random.Random


@dataclass(frozen=True)
class Recovery:
    """After one fault: until everything produced by its end was in the log and served, and whether it was exact."""

    fault: str
    seconds: float
    mismatched: Sequence[object]
    """The values that were not those of their own V, each with what it should be."""
    misplaced: Sequence[tuple[int, int]]
    """Where the broker holds something else than was produced; looked at if there are such values."""


@contextmanager
def lanes(
    bootstrap_servers: str, folder: Path, namespace: str, seed: int, decks: Sequence[Sequence[str]]
) -> Iterator[list[Lane]]:
    """A lane for each deck, with a worker that has begun."""
    with ExitStack() as stack:
        found = []
        for number, faults in enumerate(decks):
            valkey = LocalValkey(folder / f"valkey-{number}")
            stack.callback(valkey.stop)
            valkey.launch()
            valkey.await_ready()
            disk = Disk(folder / f"events-{number}")
            stack.callback(disk.close)
            place, name = folder / f"events-{number}" / "log", f"{namespace}-{number}"
            scene = Scene(bootstrap_servers, valkey, name, place, seed=seed * 100 + number, disk=disk)
            stack.callback(scene.close)
            scene.start()
            found.append(Lane(scene, faults, random.Random(seed * 100 + number)))
        yield found


def play(lane: Lane, done: Callable[[Recovery], None] | None = None) -> None:
    """All its faults, one after the other, while events flow. ``done``: wait after each until it is exact, and tell."""
    begin(lane.scene)
    for fault in lane.faults:
        CATALOGUE[fault][1](lane.scene, lane.chance)
        if done:
            done(recover(lane.scene, fault))


def begin(scene: Scene) -> None:
    """Something is in the log: now there is something to lose."""
    until(lambda: all(scene.logged()), 60)


def recover(scene: Scene, fault: str) -> Recovery:
    """Wait until what was produced by now is in the log and served, while more comes, and compare."""
    began, ends = time.monotonic(), scene.till.ends()
    until(lambda: scene.reached(ends), 180, lambda: (fault, ends, scene.state()))
    seconds = time.monotonic() - began
    wrong = inconsistent(scene, scene.look_up())
    return Recovery(fault, seconds, wrong, scene.misplaced() if wrong else [])


def play_all(
    lanes: Sequence[Lane],
    done: Callable[[Recovery], None] | None = None,
    at_last: Callable[[], None] = lambda: None,
) -> list[Comparison]:
    """All lanes at once; then, while events still flow, ``at_last``; then each is compared with what was produced."""
    with ExitStack() as flows:
        for lane in lanes:
            flows.enter_context(lane.scene.flow(ROWS_PER_S))
        with ThreadPoolExecutor(len(lanes)) as threads:
            for played in [threads.submit(play, lane, done) for lane in lanes]:
                played.result()
        at_last()
    for lane in lanes:
        lane.scene.await_end()
    return [compare(lane.scene) for lane in lanes]
