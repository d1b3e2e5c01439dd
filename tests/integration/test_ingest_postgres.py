"""`headrace ingest` from a real Postgres as a process: the page about it, kills between batches, metrics."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import polars as pl
import pytest

from headrace.app.doctor import ingest
from headrace.app.project.project import Project
from headrace.app.project.settings_sources import load_settings
from tests.support.console_page import difference, shown
from tests.support.documents import blocks
from tests.support.ingest_project import PAGE, IngestProject, answered, logged, records, stopped
from tests.support.postgres_server import Postgres, free_port
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
(TOML,) = (block.text for block in blocks(PAGE, "toml") if "postgres =" in block.text)
SQL = blocks(PAGE, "sql")[0].text
WRITTEN = re.compile(r"INSERT INTO payments .*", re.DOTALL)
ROWS = "INSERT INTO payments SELECT n, 'c7', 1, now() FROM generate_series({0}, {1}) n"


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as found:
        yield found


def made(services: LocalServices, namespace: str, folder: Path, postgres: Postgres, more: str = "") -> IngestProject:
    assert "db:5432/shop" in TOML
    toml = TOML.replace("postgresql://reader@db:5432/shop", postgres.url("reader")) + more
    return IngestProject(services, namespace, folder, toml)


def test_the_page(services: LocalServices, namespace: str, tmp_path: Path, postgres: Postgres) -> None:
    project = made(services, namespace, tmp_path, postgres)
    postgres.sql(SQL)
    with project.ingest(SHOP_PASSWORD="hunter2") as process:
        project.await_said("rows are produced")
        assert stopped(process) == 0
    printed = project.log().replace(project.topic, "payments")
    assert "hunter2" not in printed
    (_, *_, command) = shown(PAGE)
    assert difference(command, printed.rstrip()) == ""
    found = [json.loads(each.value() or b"") for each in records(services.bootstrap_servers, project.topic)]
    assert [(each["payment_id"], each["amount"]) for each in found] == [(6, 12.5), (7, 3.0)]


@pytest.mark.long
def test_a_killed_process_sends_a_batch_again_and_unique_counts_each_row_once(
    services: LocalServices, namespace: str, tmp_path: Path, postgres: Postgres
) -> None:
    project = made(services, namespace, tmp_path, postgres, 'lag = "0s"\ninterval = "100ms"\n')
    postgres.sql(WRITTEN.sub("", SQL) + ROWS.format(1, 3500))
    with project.ingest(SHOP_PASSWORD="no", FAILPOINT="after-ingest-flush:2") as process:
        assert process.wait(60) == -signal.SIGKILL
    with project.ingest(SHOP_PASSWORD="no") as process:
        project.await_said("rows are produced", 3)
        postgres.sql(ROWS.format(3501, 3600))
        project.await_said("rows are produced", 4)
        assert stopped(process) == 0
    found = logged(services, namespace, project.folder, project.stream(), 4600)
    assert found.group_by("__verdict").len().sort("__verdict").rows() == [("accepted", 3600), ("duplicate", 1000)]
    once = found.filter(pl.col("__verdict") == "accepted").get_column("payment_id")
    assert sorted(once) == list(range(1, 3601))


def test_the_doctor_looks_at_the_database(
    services: LocalServices, namespace: str, tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = made(services, namespace, tmp_path, postgres)
    settings = load_settings(folder=tmp_path, environ={})
    streams = Project({project.topic: project.stream()})
    monkeypatch.setenv("SHOP_PASSWORD", "no")

    def found() -> list[tuple[str, str]]:
        return [(each.severity, each.found) for each in ingest.examine(settings, streams, services.bootstrap_servers)]

    ((severity, said),) = found()
    assert (severity, 'role "reader" does not exist' in said) == ("error", True)
    postgres.sql(SQL)
    assert found() == [("ok", f"postgres to {project.topic}")]
    postgres.sql("ALTER TABLE payments ALTER updated_at DROP NOT NULL; UPDATE payments SET updated_at = NULL")
    assert [severity for severity, _ in found()] == ["warning", "ok"]


def test_metrics_and_readiness_follow_the_database(
    services: LocalServices, namespace: str, tmp_path: Path, postgres: Postgres
) -> None:
    port = free_port()
    project = made(services, namespace, tmp_path, postgres, 'lag = "0s"\ninterval = "100ms"\n')
    postgres.sql(WRITTEN.sub("", SQL) + ROWS.format(1, 3))
    with project.ingest("--metrics-port", str(port), SHOP_PASSWORD="no") as process:
        project.await_said("rows are produced")
        assert 'headrace_ingest_rows_total{source="till"} 3.0' in answered(port, "/metrics")[1]
        assert answered(port, "/readyz")[0] == 200
        postgres.stop()
        until(lambda: answered(port, "/readyz")[0] == 503, 20, project.log)
        postgres.start()
        until(lambda: answered(port, "/readyz")[0] == 200, 30, project.log)
        postgres.sql(ROWS.format(4, 5))
        project.await_said("rows are produced", 2)
        assert stopped(process) == 0
