"""The catalogue: each way in which something dies, stops, forgets or fills up, while events flow.

A fault is over when it returns: every store is there again, and a worker runs. From then on it must become exact.
"""

from __future__ import annotations

import re
import signal
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import headrace.event_log
import headrace.models
import headrace.streams
import headrace.streams.imports
import headrace.streams.ingest
import headrace.streams.processors
import headrace.trainers
from tests.support.crash.worker import Setting, work
from tests.support.waiting import until

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from types import ModuleType

    from tests.support.crash.scene import Scene

_MOST_SLICES = 6


class Fault(Protocol):
    """Does it to a scene that has a worker."""

    def __call__(self, scene: Scene, chance: random.Random, /) -> None:
        """Return when it is over."""


def named_steps() -> set[str]:
    """Every failpoint of workers that there is: in their own code, and in what the tests put round its stores.

    Imports, the ingest process and processors have failpoints of their own.
    """
    others = _named_in(headrace.streams.imports) | _named_in(headrace.streams.ingest)
    others |= named_steps_of_processors()
    of_workers = _named_in(headrace.streams) - others
    return of_workers | _named_by(Path(work.__code__.co_filename))


def named_steps_of_imports() -> set[str]:
    """Every failpoint that there is in the code of imports and of the event log."""
    return _named_in(headrace.streams.imports) | _named_in(headrace.event_log)


def named_steps_of_processors() -> set[str]:
    """Every failpoint that there is in the code of processors."""
    return _named_in(headrace.streams.processors)


def named_steps_of_trainers() -> set[str]:
    """Every failpoint that there is in the code of trainers and of the registry."""
    return _named_in(headrace.trainers) | _named_in(headrace.models)


def _named_in(package: ModuleType) -> set[str]:
    return set().union(*map(_named_by, Path(package.__path__[0]).rglob("*.py")))


def _named_by(path: Path) -> set[str]:
    return set(re.findall(r'failpoint\("([a-z-]+)"\)', path.read_text()))


# -- a worker is killed -----------------------------------------------------------------------------------------------


def killed_at(step: str, scene: Scene, chance: random.Random) -> None:
    """A worker at its work is killed at a named step of a batch or a flush."""
    scene.worker.arm(f"{step}:{chance.randint(1, 3)}")
    scene.await_death(scene.worker, step)
    scene.start()


def killed_when_taking_over(step: str, scene: Scene, chance: random.Random) -> None:
    """The next worker dies at its take-over, of the first partition or of the second."""
    scene.kill(scene.worker, "random")
    scene.await_death(scene.start(failpoint=f"{step}:{chance.randint(1, 2)}"), step)
    scene.start()


def killed_when_catching_up(step: str, scene: Scene, chance: random.Random) -> None:
    """Redis was emptied meanwhile, and the worker that rebuilds it dies, in any of its slices."""
    scene.kill(scene.worker, "random")
    scene.redis.flushall()
    slices = sum(-(-rows // Setting.catch_up_rows) for rows in scene.logged())
    scene.await_death(scene.start(failpoint=f"{step}:{chance.randint(1, min(slices, _MOST_SLICES))}"), step)
    scene.start()


def killed_at_random(scene: Scene, chance: random.Random) -> None:
    """Whatever it is at; then the next one, while it starts."""
    time.sleep(chance.uniform(0, 0.3))
    scene.kill(scene.worker, "random")
    victim = scene.start()
    time.sleep(chance.uniform(0, 0.6))
    scene.kill(victim, "random")
    scene.start()


def killed_in_a_rebalance(scene: Scene, chance: random.Random) -> None:
    """Partitions go from one member to another when one of them dies, then the other."""
    scene.kill(scene.worker, "random")
    group = uuid.uuid4().hex
    first = scene.start(group=group)
    time.sleep(chance.uniform(0.3, 0.8))
    second = scene.start(group=group)
    time.sleep(chance.uniform(0, 1.2))
    members = chance.sample([first, second], 2)
    scene.kill(members[0], "rebalance")
    time.sleep(chance.uniform(0, 0.3))
    scene.kill(members[1], "rebalance")
    scene.start()


def a_member_dies(scene: Scene, chance: random.Random) -> None:
    """One of two that share the partitions; the group gives it up after some seconds, and the other takes all."""
    scene.kill(scene.worker, "random")
    group = uuid.uuid4().hex
    members = [scene.start(group=group), scene.start(group=group)]
    time.sleep(chance.uniform(0.5, 1.5))
    scene.kill(chance.choice(members), "rebalance")


# -- a worker is stopped ----------------------------------------------------------------------------------------------


def a_zombie(scene: Scene, chance: random.Random) -> None:
    """A worker stops at any moment; another takes everything; then it goes on, as if nothing had been."""
    _wakes_up(scene, chance, lambda: scene.worker.signal(signal.SIGSTOP))


def a_zombie_at(step: str, scene: Scene, chance: random.Random) -> None:
    """It stops at a named step: with the write of a batch or a flush in its hands."""

    def stop() -> None:
        scene.worker.arm(f"{step}:{chance.randint(1, 3)}:SIGSTOP")
        status = Path(f"/proc/{scene.worker.pid}/stat")
        until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T", 20)

    _wakes_up(scene, chance, stop)


def _wakes_up(scene: Scene, chance: random.Random, stop: Callable[[], None]) -> None:
    zombie = scene.worker
    stop()
    rival = scene.start()
    before = sum(scene.folded())
    until(lambda: sum(scene.folded()) > before, 20)
    time.sleep(chance.uniform(0, 0.5))
    zombie.signal(signal.SIGCONT)
    time.sleep(chance.uniform(0, 1.0))
    scene.kill(zombie, "zombie")
    assert scene.worker is rival


# -- Redis ------------------------------------------------------------------------------------------------------------


def redis_emptied(scene: Scene, _: random.Random) -> None:
    """By an operator's mistake."""
    scene.redis.flushall()


def redis_killed(scene: Scene, chance: random.Random) -> None:
    """It was away for a moment, and comes back with nothing."""
    scene.valkey.kill()
    (scene.valkey.folder / "dump.rdb").unlink(missing_ok=True)
    time.sleep(chance.uniform(0, 0.5))
    scene.valkey.restart()


def redis_restarted(scene: Scene, _: random.Random) -> None:
    """In good order: it has what it had."""
    scene.redis.save()
    scene.valkey.restart()


def redis_rolled_back(scene: Scene, chance: random.Random) -> None:
    """It comes back with a snapshot that is older than what it has served."""
    scene.redis.save()
    time.sleep(chance.uniform(0.2, 1.0))
    scene.valkey.kill()
    scene.valkey.restart()


def redis_rolled_back_unseen(scene: Scene, chance: random.Random) -> None:
    """The same, while no worker runs."""
    scene.redis.save()
    time.sleep(chance.uniform(0.2, 1.0))
    scene.kill(scene.worker, "random")
    scene.valkey.kill()
    scene.valkey.restart()
    scene.start()


def redis_lost_cursors(scene: Scene, _: random.Random) -> None:
    """It forgets how far it is, and keeps the fields: each says itself what it has."""
    scene.redis.delete(*scene.redis.scan_iter("*:cursors*"))


def redis_old_cursors(scene: Scene, chance: random.Random) -> None:
    """It remembers less than its fields have, as where one part of it was restored and another was not."""
    redis: Any = scene.redis
    saved = {key: redis.dump(key) for key in redis.scan_iter("*:cursors*")}
    time.sleep(chance.uniform(0.2, 1.0))
    for key, content in saved.items():
        redis.restore(key, 0, content, replace=True)


# -- the disk, and the events themselves ------------------------------------------------------------------------------


def disk_full(scene: Scene, chance: random.Random) -> None:
    """At a flush; what is read meanwhile is online, and waits."""
    _full(scene, chance)


def disk_full_and_killed(scene: Scene, chance: random.Random) -> None:
    """The worker that has rows which it could not flush is killed."""
    _full(scene, chance, lambda: scene.kill(scene.worker, "disk full"))
    scene.start()


def _full(scene: Scene, chance: random.Random, meanwhile: Callable[[], None] = lambda: None) -> None:
    disk = scene.disk
    assert disk is not None, "its event log lies on no disk of its own"
    disk.fill([worker.pid for worker in scene.workers])
    try:
        time.sleep(0.3)  # what had its place already
        stands = scene.logged()
        time.sleep(chance.uniform(0.3, 1.0))
        assert scene.logged() == stands, "a full disk took a commit"
        meanwhile()
    finally:
        disk.free([worker.pid for worker in scene.workers])


def malformed_flood(scene: Scene, chance: random.Random) -> None:
    """Thousands of broken records, and a good one now and then."""
    scene.produce(chance.randint(1_000, 4_000), broken=0.95)


WORK_STEPS = ("before-redis", "after-redis", "before-delta", "after-delta")
TAKE_OVER_STEPS = ("before-acquire", "after-acquire")
CATCH_UP_STEPS = ("before-catch-up", "after-catch-up")

CATALOGUE: dict[str, tuple[int, Fault]] = {
    **{f"killed {step}": (4, partial(killed_at, step)) for step in WORK_STEPS},
    **{f"killed {step}": (2, partial(killed_when_taking_over, step)) for step in TAKE_OVER_STEPS},
    **{f"killed {step}": (2, partial(killed_when_catching_up, step)) for step in CATCH_UP_STEPS},
    "killed at random": (4, killed_at_random),
    "killed in a rebalance": (2, killed_in_a_rebalance),
    "group member killed": (1, a_member_dies),
    "stopped, replaced, woken": (1, a_zombie),
    **{f"stopped {step}, woken": (1, partial(a_zombie_at, step)) for step in WORK_STEPS},
    "Redis emptied": (1, redis_emptied),
    "Redis killed, back empty": (1, redis_killed),
    "Redis restarted": (1, redis_restarted),
    "Redis rolled back": (1, redis_rolled_back),
    "Redis rolled back, no worker": (1, redis_rolled_back_unseen),
    "Redis cursors lost": (1, redis_lost_cursors),
    "Redis cursors rolled back": (1, redis_old_cursors),
    "disk full": (1, disk_full),
    "disk full, killed": (1, disk_full_and_killed),
    "malformed flood": (1, malformed_flood),
}
"""Each fault by its name, with how often it comes in one deck."""


def deck(chance: random.Random, catalogue: dict[str, tuple[int, Fault]] = CATALOGUE) -> list[str]:
    """Names of faults, each as often as it is to come, in a random order."""
    names = [name for name, (times, _) in catalogue.items() for _ in range(times)]
    chance.shuffle(names)
    return names
