"""The registry's alias names the live version, also after a kill, a rollback, and a registry that was away."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from sklearn.linear_model import LogisticRegression
from structlog.testing import capture_logs

from headrace.models import artifact
from headrace.models.champion_alias import ChampionAliases, mend_alias
from headrace.models.model_event_log import MemoryModelEventLog, events
from headrace.models.model_state import ModelState, fold
from headrace.models.registry import MemoryRegistry, RunRecord
from tests.support.model_events import MANIFEST, promoted, published, rolled_back

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.models.model_events import ModelEvent

ESTIMATOR = artifact.dump(LogisticRegression().fit([[0.0], [1.0]], [0, 1]))
FIRST = published("a", 1, expects=None)
SECOND = published("b", 2, expects="a")


@pytest.fixture
def registry(tmp_path: Path) -> MemoryRegistry:
    """A registry with versions 1 and 2."""
    made = MemoryRegistry(tmp_path)
    run = RunRecord(
        name="delay", request_id="r1", manifest=MANIFEST, gate={}, started_us=0, finished_us=0, model=ESTIMATOR
    )
    for request_id in ("r1", "r2"):
        made.record(replace(run, request_id=request_id))
    return made


@pytest.fixture
def log() -> MemoryModelEventLog:
    return MemoryModelEventLog()


def test_the_alias_follows_publication_rollback_promotion_and_pin(
    registry: MemoryRegistry, log: MemoryModelEventLog
) -> None:
    aliases = ChampionAliases(log, lambda: registry, ["delay"])
    aliases.mend()
    assert registry.champion("delay") is None
    for event, champion in (
        (FIRST, 1),
        (SECOND, 2),
        (rolled_back("x", 1), 1),
        (published("c", 3, expects="b"), 1),  # void
        (promoted("p", 2), 2),
        (rolled_back("y", 2), 2),
        (rolled_back("z", 1, pin=False), 1),
    ):
        log.append(event)
        aliases.mend()
        assert registry.champion("delay") == champion


def test_a_decision_of_a_person_is_logged_once_where_the_alias_follows_it(
    registry: MemoryRegistry, log: MemoryModelEventLog
) -> None:
    aliases = ChampionAliases(log, lambda: registry, ["delay"])
    with capture_logs() as lines:
        for event in (FIRST, rolled_back("x", 1), rolled_back("y", 1, pin=False)):
            log.append(event)
            aliases.mend()
            aliases.mend()
    assert [line["said"].partition(" at ")[0] for line in lines] == [
        "version 1 was published", "version 1 was pinned", "version 1 was unpinned",
    ]  # fmt: skip


def test_a_trainer_mends_at_its_start_what_a_killed_one_left(
    registry: MemoryRegistry, log: MemoryModelEventLog
) -> None:
    for event in (FIRST, SECOND, rolled_back("x", 1)):
        log.append(event)
    registry.promote("delay", 2)
    ChampionAliases(log, lambda: registry, ["delay", "another"]).mend()
    assert registry.champion("delay") == 1


def test_a_registry_that_is_away_is_mended_when_it_is_back(
    registry: MemoryRegistry, log: MemoryModelEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    aliases = ChampionAliases(log, lambda: registry, ["delay"])
    log.append(FIRST)
    with monkeypatch.context() as away:
        away.setattr(registry, "champion", unanswered)
        with pytest.raises(ConnectionError):
            aliases.mend()
    aliases.mend()
    assert registry.champion("delay") == 1


def unanswered(_: str) -> int:
    raise ConnectionError("away")


def test_a_version_of_another_registry_is_left_out(registry: MemoryRegistry, log: MemoryModelEventLog) -> None:
    aliases = ChampionAliases(log, lambda: registry, ["delay"])
    log.append(FIRST)
    log.append(published("b", 70, expects="a"))
    aliases.mend()
    assert registry.champion("delay") is None
    log.append(rolled_back("x", 1))
    aliases.mend()
    assert registry.champion("delay") == 1


def test_the_later_of_two_that_mend_at_once_sees_the_newest_event(
    registry: MemoryRegistry, log: MemoryModelEventLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rollback, and the other's alias, come between this one's reading and its writing."""
    for event in (FIRST, SECOND):
        log.append(event)
    promote, late = registry.promote, [rolled_back("x", 1)]

    def interrupted(name: str, version: int) -> None:
        if late:
            log.append(late.pop())
            promote(name, 1)
        promote(name, version)

    monkeypatch.setattr(registry, "promote", interrupted)

    def state() -> ModelState:
        found: list[ModelEvent] = events(log.read(), "delay")
        return fold(found)

    mend_alias(state, registry, "delay")
    assert registry.champion("delay") == 1
