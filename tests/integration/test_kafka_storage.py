from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from headrace.app.local.kafka import LocalKafka

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration
BEGINS_WITH_A_DASH = uuid.UUID(bytes=b"\xfb\xef" + bytes(14))


def test_a_cluster_id_that_looks_like_an_option_is_an_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uuid, "uuid4", lambda: BEGINS_WITH_A_DASH)
    LocalKafka(tmp_path)._command()
    assert "cluster.id=--8A" in (tmp_path / "log" / "meta.properties").read_text()
