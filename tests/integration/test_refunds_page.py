"""The page about refunds runs as it stands."""

from __future__ import annotations

import io
import json
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer

from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.features.definitions.view import FeatureView
from tests.support.documents import blocks
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow]
PAGE = "docs/how-to/refunds.md"
PYTHON = [block.text for block in blocks(PAGE, "python")]
(TEXT,) = [block.text for block in blocks(PAGE, "text")]
LINES = blocks(PAGE, "json")[0].text.splitlines()


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    addresses = {"bootstrap_servers": services.bootstrap_servers, "redis_url": services.redis_url}
    for name, value in {**addresses, "namespace": namespace, "data_dir": str(tmp_path)}.items():
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value)
    topic = f"{namespace}.changes"
    world: dict[str, Any] = {"__name__": "page"}
    exec(compile(PYTHON[0].replace("shop.public.payments", topic), PAGE, "exec", dont_inherit=True), world)
    view: FeatureView = world["spending"]
    ensure_topics(services.bootstrap_servers, [TopicPlan(topic, 1, {"message.timestamp.type": "CreateTime"})])
    producer = Producer({"bootstrap.servers": services.bootstrap_servers})
    for line in LINES:
        producer.produce(topic, line, b"k", timestamp=json.loads(line)["ts_ms"])
    assert producer.flush(20) == 0
    with working(services, namespace, tmp_path, view, service="risk") as store:
        name = view.spec.versioned_name
        until(lambda: sum(each.next_offset for each in store.cursors([name])[0].values()) == len(LINES), 60)
        out = io.StringIO()
        world["print"] = partial(print, file=out)  # stdout itself has the log of the worker, which is in a thread
        exec(compile(PYTHON[1], PAGE, "exec", dont_inherit=True), world)
        assert out.getvalue() == TEXT
    exec(compile(PYTHON[2], PAGE, "exec", dont_inherit=True), world)
    assert isinstance(world["net"], FeatureView)
    assert len(PYTHON) == 3
