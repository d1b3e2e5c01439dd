"""The plug-in of pytest: fixtures for tests of a project on a real Kafka and Valkey.

pip installs it with headrace, and pytest finds it by itself. A test that asks for no fixture costs nothing.

::

    def test_a_payment_is_counted(headrace_project):
        headrace_project.send(payments, Payment(…))
        with headrace_project.worker(), headrace_project.connect() as hr:
            headrace_project.counted()
            assert hr.features().get("risk", {"card": "c7"}).to_dicts()[0]["spending__payments_1h"] == 1
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.app.project_under_test import ProjectUnderTest


@pytest.fixture(scope="session")
def headrace_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServices]:
    """A real Kafka and Valkey on this machine, from Python packages. All tests of a session share them."""
    from headrace.app.local.services import LocalServices  # noqa: PLC0415 - pytest loads the plug-in in every run

    with LocalServices(tmp_path_factory.mktemp("headrace")) as running:
        yield running


@pytest.fixture
def headrace_project(
    request: pytest.FixtureRequest,
    headrace_services: LocalServices,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[ProjectUnderTest]:
    """The project of the nearest headrace.toml above the test, with a namespace, a data folder and topics of its own.

    In the test, ``headrace.connect()`` finds them too. The topics are deleted after the test.
    """
    from headrace.app.project.project import load_project  # noqa: PLC0415
    from headrace.app.project_under_test import ProjectUnderTest, settings_under_test  # noqa: PLC0415

    settings = settings_under_test(
        f"t{uuid.uuid4().hex[:10]}",
        tmp_path / "headrace",
        bootstrap_servers=headrace_services.bootstrap_servers,
        redis_url=headrace_services.redis_url,
        root=request.path.parent,
    )
    project = ProjectUnderTest(load_project(settings), settings, tmp_path)
    project.make_topics()
    for name, value in project.environment.items():
        monkeypatch.setenv(name, value)
    yield project
    project.remove()
