"""A scene for each test of one topic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.crash.scene import Scene

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices


@pytest.fixture
def scene(services: LocalServices, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    """On the services of the whole run."""
    scene = Scene(services.bootstrap_servers, services.valkey, namespace, tmp_path / "events", seed=7)
    yield scene
    scene.close()
