"""The probe of an event log's storage on an S3 server, and on a look-alike that does not know conditional PUT."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from headrace.app.doctor.event_log import examine
from headrace.errors import OfflineStoreUnavailableError, SettingsError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_identity import identity_of, known_identity
from headrace.event_log.storage_fence import check_fence
from tests.support.artifact_servers import BUCKET
from tests.support.s3_processes import s3_process, s3_that_looks_first, s3_without_conditions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_process() as address:
        yield address


@pytest.fixture(autouse=True)
def _environment(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**CREDENTIALS, "AWS_ALLOW_HTTP": "true", "AWS_ENDPOINT_URL": s3}.items():
        monkeypatch.setenv(name, value)


def test_an_s3_server_with_conditional_put_is_used() -> None:
    log = EventLog(f"s3://{BUCKET}/used")
    before = identity_of(log)
    for number in range(3):
        check_fence(log.url, str(number))
    assert known_identity(log) == before


def test_an_s3_server_that_ignores_conditions_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_without_conditions(s3) as look_alike:
        monkeypatch.setenv("AWS_ENDPOINT_URL", look_alike)
        with pytest.raises(SettingsError, match=r"no conditional PUT"):
            check_fence(f"s3://{BUCKET}/refused", "probe")


def test_an_s3_server_that_looks_before_it_writes_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One writer after the other is refused as it should be, and two at the same moment both create the object."""
    with s3_that_looks_first(s3) as look_alike:
        monkeypatch.setenv("AWS_ENDPOINT_URL", look_alike)
        with pytest.raises(
            SettingsError, match=r"several writers create one object at the same moment, in \d of 8 races"
        ):
            check_fence(f"s3://{BUCKET}/refused", "race")


def test_the_doctor_names_a_store_that_overwrites_and_one_that_does_not_answer(
    s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(f"s3://{BUCKET}/looked-at") == ("ok", "an object store with conditional PUT")
    status, detail = said("s3://missing/events")
    assert status == "error"
    assert detail.startswith("the storage of the event log at s3://missing/events does not answer")
    with s3_without_conditions(s3) as look_alike:
        monkeypatch.setenv("AWS_ENDPOINT_URL", look_alike)
        status, detail = said(f"s3://{BUCKET}/refused")
        assert status == "error"
        assert "no conditional PUT" in detail


def said(url: str) -> tuple[str, str]:
    """What the doctor says about an event log without tables."""
    [found] = examine(EventLog(url), [])
    return found.severity, found.found


def test_a_folder_needs_no_probe(tmp_path: Path) -> None:
    for place in (str(tmp_path / "path"), (tmp_path / "url").as_uri()):
        check_fence(place, "probe")
    assert list(tmp_path.iterdir()) == []


def test_a_bucket_that_is_not_there_is_named() -> None:
    with pytest.raises(OfflineStoreUnavailableError, match=r"the event log at s3://missing/events does not answer"):
        check_fence("s3://missing/events", "probe")
