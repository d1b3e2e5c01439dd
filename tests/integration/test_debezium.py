"""A table is what Postgres says: a real Postgres, a real Debezium as the page configures it, a real Kafka."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import pytest

from headrace import FeatureClient
from headrace.bus.topics import TopicPlan, ensure_topics
from headrace.event_log.event_log import EventLog
from tests.support.debezium_connect import Connect
from tests.support.documents import blocks
from tests.support.postgres_server import Postgres
from tests.support.view_worker import working
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.long]
PAGE = "docs/how-to/cdc-from-postgres.md"
PYTHON = [block.text for block in blocks(PAGE, "python")]
KEYS = range(1, 31)
STATEMENTS = (
    "DELETE FROM customers WHERE id = {id}",
    "UPDATE customers SET plan = 'free' WHERE id = {id}",
    "INSERT INTO customers VALUES ({id}, 'gold', {n}) ON CONFLICT (id) DO UPDATE SET credit_limit = {n}",
)


@pytest.mark.timeout(240)
def test_a_table_has_the_rows_of_postgres(services: LocalServices, namespace: str, tmp_path: Path) -> None:
    world: dict[str, Any] = {"__name__": "page"}
    exec(compile(PYTHON[0].replace("shop.public", f"{namespace}.public"), PAGE, "exec", dont_inherit=True), world)
    view = world["profile"]
    ensure_topics(services.bootstrap_servers, [TopicPlan(view.source.topic, 2, {"cleanup.policy": "compact"})])
    with Postgres() as postgres:
        postgres.sql(blocks(PAGE, "sql")[0].text + "INSERT INTO customers VALUES (1, 'gold', 5), (2, 'free', NULL)")
        connector = json.loads(blocks(PAGE, "json")[0].text) | {
            "name": "shop", "topic.prefix": namespace, "database.hostname": "127.0.0.1",
            "database.port": str(postgres.port), "database.user": "postgres", "database.password": "none",
            "database.dbname": "postgres",
        }  # fmt: skip
        with (
            Connect(tmp_path, services.bootstrap_servers, connector) as connect,
            working(services, namespace, tmp_path, view) as store,
        ):
            client = FeatureClient(store)

            def check() -> None:
                rows = postgres.sql("SELECT id, plan, credit_limit FROM customers")
                wanted = {int(key): [float(limit) if limit else None, plan == "gold"] for key, plan, limit in rows}
                every = [wanted.get(key, [None, None]) for key in KEYS]

                def found() -> list[list[Any]]:
                    return client.get_views("profile", [{"id": key} for key in KEYS]).to_lists()

                until(lambda: found() == every, 90, lambda: (found(), every, connect.told()))

            check()
            postgres.sql(
                "UPDATE customers SET credit_limit = 9 WHERE id = 1; INSERT INTO customers VALUES (3, 'gold', 1)"
            )
            postgres.sql("DELETE FROM customers WHERE id = 2")
            check()
            postgres.sql(
                "BEGIN; DELETE FROM customers WHERE id = 1; INSERT INTO customers VALUES (1, 'free', 2); COMMIT"
            )
            check()
            postgres.sql("UPDATE customers SET id = 4 WHERE id = 3")
            check()
            choose = random.Random(3)
            many = [choose.choice(STATEMENTS).format(id=choose.choice(KEYS), n=number) for number in range(300)]
            for begin in range(0, len(many), 50):
                postgres.sql(";".join(many[begin : begin + 50]))
            check()
    log = EventLog(tmp_path / "events", namespace=namespace).read(view.source.topic)
    assert log["__verdict"].unique().to_list() == ["accepted"]
    assert log["__op"].value_counts().height == len({"upsert", "delete"})
