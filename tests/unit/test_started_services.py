"""A command that comes while services start waits for them."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from headrace.app.local.lock import Addresses, FolderLock
from headrace.app.processes import connections
from headrace.app.processes.connections import kafka_for_command, started_services
from headrace.app.project.settings import Settings
from headrace.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOUND = Addresses(pid=os.getpid(), bootstrap_servers="127.0.0.1:9", redis_url="redis://127.0.0.1:6")


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[FolderLock]:
    found = FolderLock(tmp_path)
    yield found
    found.release()


def test_services_that_are_starting_are_waited_for(
    tmp_path: Path, lock: FolderLock, capsys: pytest.CaptureFixture[str]
) -> None:
    published = threading.Timer(0.3, lock.publish, [FOUND])
    published.start()
    (tmp_path / "local" / "kafka").mkdir(parents=True)
    with kafka_for_command(Settings(data_dir=tmp_path)) as servers:
        assert servers == FOUND.bootstrap_servers
    published.join()
    said = capsys.readouterr().err
    assert said == f"process {os.getpid()} is starting Kafka and Valkey on {tmp_path}: waiting for them …\n"
    assert started_services(tmp_path) == FOUND
    assert capsys.readouterr().err == ""


def test_services_that_do_not_start_in_time_are_tried_again_later(
    tmp_path: Path, lock: FolderLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "START_SECONDS", 0.1)
    with pytest.raises(UnavailableError, match=rf"process {os.getpid()} is still starting Kafka .*: try again when"):
        started_services(tmp_path)
    assert lock.fd


def test_a_folder_without_services_is_not_waited_for(tmp_path: Path) -> None:
    assert started_services(tmp_path) is None
