"""A store that overwrites a commit with the next one is refused before a worker writes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from headrace.errors import SettingsError
from headrace.event_log import log_identity
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_identity import check_fence, identity_of

if TYPE_CHECKING:
    from pathlib import Path


def test_a_store_with_a_fence_passes_and_keeps_the_identity(tmp_path: Path) -> None:
    log = EventLog((tmp_path / "events").as_uri())
    before = identity_of(log)
    for number in range(3):
        check_fence(log, str(number))
    assert identity_of(log) == before


def test_a_store_that_overwrites_commits_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = EventLog((tmp_path / "events").as_uri())
    identity_of(log)
    real = log_identity._commit

    def overwritten(table: Any, transaction: Any) -> None:
        real(table, transaction)
        folder = tmp_path / "events" / "_headrace" / "_delta_log"
        (folder / f"{table.version():020}.json").unlink()  # as if the next writer did not see it

    monkeypatch.setattr(log_identity, "_commit", overwritten)
    with pytest.raises(SettingsError, match=r"no conditional PUT"):
        check_fence(log, "probe")


def test_a_folder_needs_no_probe(tmp_path: Path) -> None:
    check_fence(EventLog(tmp_path / "events"), "probe")
    assert not (tmp_path / "events").exists()
