"""kill -9 at every named step and at any moment, again and again, on several topics at once."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.crash.faults import CATCH_UP_STEPS, TAKE_OVER_STEPS, WORK_STEPS, named_steps
from tests.support.crash.lanes import lanes, play_all

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
STEPS = (*WORK_STEPS, *TAKE_OVER_STEPS, *CATCH_UP_STEPS)
IN_A_LANE = {
    **{f"killed {step}": 5 for step in WORK_STEPS},
    **{f"killed {step}": 3 for step in (*TAKE_OVER_STEPS, *CATCH_UP_STEPS)},
    "killed at random": 4,
    "killed in a rebalance": 2,
    "group member killed": 1,
}
LANES, AT_LEAST = 4, 200


def test_every_named_step_is_one_to_die_at() -> None:
    assert named_steps() == set(STEPS)


@pytest.mark.timeout(600)
def test_200_workers_killed_anywhere_lose_and_double_nothing(
    services: LocalServices, namespace: str, tmp_path: Path
) -> None:
    chance = random.Random(11)
    names = [name for name, times in IN_A_LANE.items() for _ in range(times)]
    decks = [chance.sample(names, len(names)) for _ in range(LANES)]
    with lanes(services.bootstrap_servers, tmp_path, namespace, 11, decks) as found:
        comparisons = play_all(found)
        deaths: Counter[str] = sum((lane.scene.deaths for lane in found), Counter())
    assert all(comparison.is_exact for comparison in comparisons), comparisons
    assert all(comparison.produced > 1_000 for comparison in comparisons)
    assert deaths.total() >= AT_LEAST
    assert all(deaths[step] >= 3 * LANES for step in (*STEPS, "random", "rebalance")), deaths
