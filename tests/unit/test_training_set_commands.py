"""`headrace data training-set` and `rebuild`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import polars as pl
import pytest
from typer.testing import CliRunner

from headrace.app.cli import build
from headrace.base.times import utc_datetime
from headrace.trainers.data import training_set
from headrace.trainers.data.training_set import manifest_of
from tests.support.orders_model import TOML, Shop, day, shop

if TYPE_CHECKING:
    from pathlib import Path

    from typer.testing import Result

run = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "headrace.toml").write_text(TOML)
    Shop(tmp_path)
    spine = pl.DataFrame({"shop": ["shop-1", "shop-2"], "at": [utc_datetime(day(3)), utc_datetime(day(9))]})
    spine.write_parquet("spine.parquet")
    return tmp_path


def call(*words: str) -> Result:
    return run.invoke(build(), ["data", *words])


@pytest.mark.slow
def test_a_training_set_is_written_and_made_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = call("training-set", "shop", "--spine", "spine.parquet", "--out", "set.parquet", "--json")
    assert told.exit_code == 0, told.exception
    assert json.loads(told.stdout)["rows"] == 2
    assert json.loads(told.stdout)["content_hash"] == manifest_of("set.parquet").content_hash
    assert pl.read_parquet("set.parquet").columns == ["shop", "at", *(f"{shop.name}__orders_1d",)]
    again = call("rebuild", "set.parquet", "--out", "again.parquet")
    assert (again.exit_code, again.stdout) == (0, "2 rows, the same as then\n")
    assert (folder / "again.parquet").exists()
    then = msgspec.structs.replace(manifest_of("set.parquet"), content_hash="sha256:other")
    monkeypatch.setattr(training_set, "manifest_of", lambda _: then)
    other = call("rebuild", "set.parquet", "--json")
    assert other.exit_code == 1
    assert json.loads(other.stdout)["identical"] is False


def test_the_training_set_command_answers_in_one_line(folder: Path) -> None:
    told = call("training-set", "shop", "--spine", "spine.parquet", "--out", "set.parquet").stdout
    assert told.startswith("set.parquet: 2 rows, 1 features, sha256:")
