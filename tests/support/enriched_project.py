"""The project of the page about enrichment, run as processes: a worker in this one, `headrace process` beside it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from headrace import FeatureClient
from headrace.bus.topics import TopicPlan, ensure_topics, stream_config
from headrace.errors import FeaturesUnknownError
from headrace.event_log.event_log import EventLog
from tests.support.documents import blocks
from tests.support.processor_project import PARTITIONS, ProcessorProject, committed_records
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from headrace.app.local.services import LocalServices
    from headrace.features.online.redis.redis_store import RedisOnlineStore
    from headrace.streams.processors.enriched_stream import EnrichedStream

PAGE = "docs/reference/enrichment.md"
PYTHON = blocks(PAGE, "python")[0].text


class EnrichedProject(ProcessorProject):
    """The project of the page on topics of its own. ``replay``: producers stamp the records."""

    def __init__(
        self, services: LocalServices, namespace: str, folder: Path, *, python: str = PYTHON, replay: bool = False
    ) -> None:
        names, config = [f"{namespace}.payments", f"{namespace}.payments.card_usual"], stream_config(replay=replay)
        ensure_topics(services.bootstrap_servers, [TopicPlan(name, PARTITIONS, config) for name in names])
        super().__init__(services, namespace, folder, python)
        self.services, self.world = services, self.definitions()
        self.compared: EnrichedStream = self.world["compared"]
        self.event_log = EventLog(folder / ".headrace" / "events", namespace=namespace)

    def working(self) -> AbstractContextManager[RedisOnlineStore]:
        """A worker of both views in a thread of the test."""
        return working(self.services, self.namespace, self.folder / ".headrace", self.world["card"], self.world["shop"])

    def highest(self, shop: str) -> float | None:
        """The highest z of a shop, by the view over the enriched stream."""
        try:
            with FeatureClient.from_url(self.services.redis_url, self.namespace) as client:
                found: float | None = client.get_views("shop", {"shop": shop}).to_dicts()[0]["shop__highest_z_1d"]
                return found
        except FeaturesUnknownError:  # the worker has not come so far
            return None

    def logged_payments(self) -> int:
        """How many payments the event log has."""
        return self.event_log.read(self.payments).height if self.event_log.exists(self.payments) else 0

    def written(self) -> list[dict[str, Any]]:
        """The events of the enriched stream that a reader of committed records sees."""
        return [json.loads(each.value() or b"") for each in committed_records(self.servers, self.compared.topic)]

    def await_written(self, count: int, seconds: int = 60) -> dict[int, dict[str, Any]]:
        """Wait for so many payments, each of which is there once."""
        until(lambda: len(self.written()) >= count, seconds, self.log)
        found = {each["payment_id"]: each for each in self.written()}
        assert len(found) == len(self.written()) == count, "a payment is there twice"
        return found
