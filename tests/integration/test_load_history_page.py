"""The page about history: its commands print what it says, on files as it describes them."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from tests.support.console_page import difference, shown

if TYPE_CHECKING:
    from pathlib import Path

    from headrace.app.local.services import LocalServices

pytestmark = pytest.mark.integration
PAGE = "docs/how-to/load-history.md"
T0 = datetime(2013, 1, 1, tzinfo=UTC)


def departed(first: datetime, count: int, seconds: int) -> pl.DataFrame:
    times = [first + timedelta(seconds=seconds * number) for number in range(count)]
    return pl.DataFrame(
        {
            "flight_id": range(count), "carrier": "B6", "origin": ["JFK", "LGA"] * (count // 2) + ["JFK"] * (count % 2),
            "dest": "LAX", "departed_at": times, "delay_minutes": [float(number % 40) for number in range(count)],
        }
    ).sample(fraction=1, shuffle=True, seed=1)  # fmt: skip


@pytest.fixture
def history(tmp_path: Path) -> Path:
    folder = tmp_path / "history"
    folder.mkdir()
    departed(T0, 600, 3_600).write_parquet(folder / "departed-01.parquet")
    departed(T0 + timedelta(days=20), 600, 3_600).write_parquet(folder / "departed-02.parquet")
    broken = departed(datetime(2013, 2, 20, tzinfo=UTC), 3, 60).cast({"flight_id": pl.String})
    broken = broken.with_columns(
        pl.col("departed_at").dt.strftime("%Y-%m-%dT%H:%M:%SZ"), pl.col("flight_id").replace("1", "one")
    )
    broken.write_csv(folder / "broken.csv")
    return folder


def test_the_commands_of_the_page_print_what_it_says(
    services: LocalServices, namespace: str, history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_BOOTSTRAP_SERVERS", services.bootstrap_servers)
    monkeypatch.setenv("HEADRACE_REDIS_URL", services.redis_url)
    monkeypatch.setenv("HEADRACE_NAMESPACE", namespace)
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path / "data"))
    wrong, last = "", ""
    for each in shown(PAGE):
        command = each.command.replace("history/", f"{history}/").replace(" ID ", f" {last} ")
        done = CliRunner().invoke(build(), shlex.split(command)[1:])
        printed = "\n".join(line.rstrip() for line in done.output.replace(f"{history}/", "history/").splitlines())
        found = re.findall(r"^flights\.departed +([0-9a-f]{12}) ", printed, re.MULTILINE)
        wrong += difference(each, printed.replace(last, "ID") if "undo" in command else printed)
        last = found[-1] if found else last
    assert wrong == ""
