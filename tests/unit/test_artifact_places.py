"""A message on the bus makes an application read a regular file in a declared place, and nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import ArtifactError, TransientError
from headrace.models import artifact
from headrace.models.artifact_places import ArtifactPlaces
from headrace.models.model_event_log import MemoryAcknowledgements, MemoryModelEventLog
from headrace.serving.subscriber import LoadingPolicy, ModelSubscriber
from tests.support.model_events import PUBLISHED, published

if TYPE_CHECKING:
    from collections.abc import Callable

NOWHERE = "in none of the places"


def noting(uris: list[str]) -> Callable[[str], bytes]:
    """What fetches nothing and notes what it is asked for."""

    def fetch(uri: str) -> bytes:
        uris.append(uri)
        return b""

    return fetch


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A declared folder with an artifact, beside a secret file."""
    (tmp_path / "secret").write_text("a secret")
    (tmp_path / "models" / "delay").mkdir(parents=True)
    (tmp_path / "models" / "delay" / "1.skops").write_text("a model")
    return tmp_path / "models"


def test_a_file_below_a_place_is_read(place: Path) -> None:
    uri = (place / "delay" / "1.skops").as_uri()
    for declared in (place, str(place), place.as_uri(), f"{place}/"):
        assert ArtifactPlaces(["s3://other", declared]).read(uri) == b"a model"
    assert ArtifactPlaces([place]).read(uri.replace("file:///", "file://localhost/")) == b"a model"


def test_without_places_nothing_is_read(place: Path) -> None:
    with pytest.raises(ArtifactError, match=NOWHERE):
        ArtifactPlaces().read((place / "delay" / "1.skops").as_uri())


OUTSIDE = [
    "file:///etc/passwd",
    "file:///dev/zero",
    "file:///proc/self/environ",
    "file:{place}/../secret",
    "file://{place}/../secret",
    "file://{place}/%2e%2e/secret",
    "file://{place}/delay/../../secret",
    "file://{place}",
    "file://{place}/.",
    "file://{place}-other/1.skops",
    "file://elsewhere{place}/delay/1.skops",
    "file://{place}/link",
    "file://{place}/loop",
    "file://{place}/a%00b",
    "file:delay/1.skops",
    "{place}/delay/1.skops",
    "delay/1.skops",
    "",
    "http://169.254.169.254/latest/meta-data",
    "s3://bucket/other/1.skops",
    "s3://bucket/models",
    "s3://bucket/models-other/1.skops",
    "s3://bucket/models/../other/1.skops",
    "s3://bucket/models/%2e%2e/other/1.skops",
    "s3://bucket/models/%252e%252e/other/1.skops",
    "s3://bucket/models/..\\other",
    "S3://bucket/models/1.skops",
]


@pytest.mark.parametrize("uri", OUTSIDE)
def test_a_file_outside_of_the_places_is_not_touched(place: Path, uri: str) -> None:
    (place / "link").symlink_to(place.parent / "secret")
    (place / "loop").symlink_to(place / "loop")
    touched: list[str] = []
    places = ArtifactPlaces([place, "s3://bucket/models"], fetch=noting(touched))
    with pytest.raises(ArtifactError, match=NOWHERE) as raised:
        places.read(uri.format(place=place))
    assert touched == []
    assert len(str(raised.value)) < 1_000


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["..", ".", "delay", "link", "%2e%2e", "%2F", "/", "\\", "1.skops", "\0", "é"])))
def test_no_path_leads_out_of_the_place(place: Path, steps: list[str]) -> None:
    read: list[str] = []
    places = ArtifactPlaces([place], fetch=noting(read))
    for uri in (f"file://{place}/{'/'.join(steps)}", f"file://{place}/{quote('/'.join(steps))}"):
        try:
            places.read(uri)
        except ArtifactError:
            continue
        assert place in Path(os.path.realpath(read[-1].removeprefix("file://"))).parents


def test_a_file_and_no_file_outside_of_the_places_give_the_same_answer(place: Path) -> None:
    def said(uri: str) -> str:
        with pytest.raises(ArtifactError) as raised:
            ArtifactPlaces([place]).read(uri)
        return str(raised.value).replace(uri, "it")

    assert said("file:///etc/passwd") == said("file:///etc/no-such-file") == said("file:///root/secret")


# -- what a place may hold ---------------------------------------------------------------------------------------------


def in_time(call: Callable[[], Any]) -> Exception | None:
    """The error of a call, which has to end by itself."""
    errors: list[Exception] = []

    def run() -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    return errors[0] if errors else None


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [make_pipe, make_device, Path.mkdir])
def test_a_file_that_is_not_regular_is_not_opened(place: Path, make: Callable[[Path], None]) -> None:
    make(place / "odd")
    error = in_time(lambda: artifact.fetch((place / "odd").as_uri()))
    assert isinstance(error, ArtifactError)
    assert "no regular file" in str(error)


def test_a_file_that_is_too_large_is_given_up(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifact, "_LARGEST", 6)
    with pytest.raises(ArtifactError, match="more than 6 bytes"):
        artifact.fetch((place / "delay" / "1.skops").as_uri())


def test_an_error_about_an_endless_name_has_a_bound(place: Path) -> None:
    with pytest.raises(TransientError, match="characters are left out") as raised:
        ArtifactPlaces([place]).read((place / ("x" * 100_000)).as_uri())
    assert len(str(raised.value)) < 1_000


def test_a_file_that_is_too_slow_is_given_up(place: Path) -> None:
    with pytest.raises(TransientError, match="did not come in time"):
        artifact.fetch((place / "delay" / "1.skops").as_uri(), within="0ms")


# -- an application ----------------------------------------------------------------------------------------------------


def test_an_application_keeps_its_version_when_a_forged_publication_names_a_file(place: Path) -> None:
    log, said = MemoryModelEventLog(), MemoryAcknowledgements()
    policy = LoadingPolicy([], ArtifactPlaces([place]))
    application = ModelSubscriber("delay", log, said, policy, application="web", clock=lambda: 0)
    for number, uri in enumerate(["file:///etc/passwd", "file:///dev/zero", "file:///no/such/file"], 1):
        forged = msgspec.structs.replace(PUBLISHED.artifact, uri=uri)
        log.append(published(f"e{number}", number, expects=f"e{number - 1}" if number > 1 else None, artifact=forged))
        assert in_time(application.poll_once) is None
        assert application.current is None
    assert [(ack.ok, NOWHERE in ack.reason) for ack in said.sent] == [(False, True)] * 3
