"""The one door of an application, and the feed of model events, with nothing behind them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

import headrace
from headrace.errors import SettingsError, TerminalError
from headrace.serving import Connection, ModelEventFeed, ServerAddresses
from headrace.testing import MemoryModelEventLog
from tests.support.model_events import published, rolled_back

if TYPE_CHECKING:
    from pathlib import Path

NOWHERE = ServerAddresses("127.0.0.1:1", "redis://127.0.0.1:1")


def test_connect_takes_arguments_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", "k:1")
    monkeypatch.setenv("HEADRACE_NAMESPACE", "theirs")
    found = headrace.connect(redis_url="redis://mine", namespace="ours").addresses
    places = [str(tmp_path / ".headrace" / "artifacts")]
    assert found == ServerAddresses("k:1", "redis://mine", "ours", artifact_places=places)
    monkeypatch.delenv("HEADRACE_BOOTSTRAP_SERVERS")
    with pytest.raises(SettingsError, match=r"bootstrap_servers: give it to headrace.connect, set HEADRACE_BOOTSTRAP"):
        headrace.connect(redis_url="redis://mine")


def test_the_same_options_give_the_same_client() -> None:
    with Connection(NOWHERE) as hr:
        assert hr.features() is hr.features()
        assert hr.features(cache="1s") is hr.features(cache="1s") is not hr.features()
        assert hr.async_features() is hr.async_features()


def test_a_connection_closes_the_clients_that_it_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[object] = []

    def close(client: object) -> None:
        closed.append(client)

    async def close_async(client: object) -> None:
        closed.append(client)

    async def use() -> set[object]:
        async with Connection(NOWHERE) as hr:
            return {hr.features(), hr.async_features()}

    monkeypatch.setattr(headrace.FeatureClient, "close", close)
    monkeypatch.setattr(headrace.AsyncFeatureClient, "close", close_async)
    assert asyncio.run(use()) == set(closed)


def test_a_feed_yields_the_events_of_one_model_or_of_all() -> None:
    log = MemoryModelEventLog()
    log.append(published("a", 1, expects=None))
    log.append(rolled_back("b", 1))
    model = published("a", 1, expects=None).model
    assert [event.id for event in ModelEventFeed(log, model)] == ["a", "b"]
    assert [event.id for event in ModelEventFeed(log, "another")] == []
    assert [event.kind for event in ModelEventFeed(log)] == ["published", "rolled_back"]
    assert ModelEventFeed(log, model).state().pinned
    with pytest.raises(TerminalError, match="one model"):
        ModelEventFeed(log).state()


def test_a_feed_follows_until_nothing_came_for_the_timeout() -> None:
    log = MemoryModelEventLog()
    log.append(published("a", 1, expects=None))
    following = ModelEventFeed(log).follow(timeout="2s")
    assert next(following).id == "a"
    later = threading.Timer(0.05, log.append, [rolled_back("b", 1)])
    later.start()
    assert next(following).id == "b"
    assert list(ModelEventFeed(log, "another").follow(timeout="10ms")) == []
    later.join()


def test_importing_the_doubles_imports_none_of_their_homes() -> None:
    code = "import sys, headrace.testing; print(*sorted(name for name in sys.modules if name.startswith('headrace.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["headrace.errors", "headrace.testing", "headrace.version"]
