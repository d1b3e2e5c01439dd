"""kill -9 of trainers at every named step of a run, again and again: one version for each request."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from headrace.models.mlflow_registry import MlflowRegistry
from tests.support.crash.faults import named_steps_of_trainers
from tests.support.crash.trained_models import WAVES
from tests.support.crash.trainer_lane import TrainerLane
from tests.support.crash.trainer_versions import check_versions
from tests.support.example_budget import soaking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.crash, pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
DECISION_STEPS = ["before-ask", "after-ask", "after-decision"]
RUN_STEPS = [
    "before-training-set", "after-training-set", "after-fit", "after-gate", "after-refit", "before-version",
    "after-version", "after-register", "after-publish", "after-alias", "after-answer",
]  # fmt: skip
LANES, MODELS = 4, 6


def test_every_named_step_of_a_trainer_is_one_to_die_at() -> None:
    assert named_steps_of_trainers() == {*DECISION_STEPS, *RUN_STEPS}


def deck(chance: random.Random) -> list[list[str]]:
    """A step of a decision begins each wave, as all decisions of a wave come at once."""
    first, others = chance.sample(DECISION_STEPS, 3), chance.sample(RUN_STEPS, len(RUN_STEPS))
    return [[first[wave], *others[wave::3]] for wave in range(len(WAVES))]


@pytest.fixture
def lanes(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[list[TrainerLane]]:
    MlflowRegistry(f"sqlite:///{tmp_path}/empty.db", tmp_path.as_uri())  # makes its tables, which takes seconds
    with ExitStack() as stack:
        found = []
        for number in range(LANES):
            name = f"{namespace}-{number}"
            dealt = deck(random.Random(number))
            lane = TrainerLane(services.bootstrap_servers, name, tmp_path / f"lane-{number}", MODELS, dealt)
            stack.callback(lane.close)
            lane.prepare(tmp_path / "empty.db")
            found.append(lane)
        yield found


@pytest.mark.skipif(not soaking(), reason="`make soak` kills trainers: their starts take all of two cores for minutes")
@pytest.mark.timeout(900)
def test_trainers_killed_at_any_step_publish_one_version_for_each_request(lanes: list[TrainerLane]) -> None:
    with ThreadPoolExecutor(LANES) as threads:
        for played in [threads.submit(lane.play) for lane in lanes]:
            played.result()
    deaths: Counter[str] = sum((lane.deaths for lane in lanes), Counter())
    for lane in lanes:
        check_versions(lane)
    assert all(deaths[step] >= LANES for step in (*DECISION_STEPS, *RUN_STEPS)), deaths
