"""Spines, files and names from which no training set can be made say what is wrong with them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

import headrace
from headrace import Settings
from headrace.base.times import utc_datetime
from headrace.errors import DefinitionError, ProjectError, TerminalError
from tests.support.orders_model import (
    START_US,
    Shop,
)
from tests.support.training_set_scene import SERVICE, made, spine_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("shop"))


@pytest.mark.parametrize(
    ("spine", "options", "said"),
    [
        (pl.DataFrame({"at": [utc_datetime(START_US)]}), {}, r"lacks the join keys \['shop'\]; it has \['at'\]"),
        (
            pl.DataFrame({"shop": [1], "at": [utc_datetime(START_US)]}),
            {},
            "join key 'shop' is Int64; .* have it as str",
        ),
        (pl.DataFrame({"shop": ["a"]}), {}, "no one time column: its columns of times are none; name one with time"),
        (spine_of(1), {"time": "when"}, r"no time column 'when': its columns of times are \['at'\]"),
        (
            spine_of(1).rename({"note": "shop__orders_1d"}),
            {},
            r"columns with the names of features: \['shop__orders_1d'\]",
        ),
    ],
)
def test_a_spine_that_does_not_fit_is_refused(shop: Shop, spine: Any, options: Any, said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        made(shop, SERVICE, spine, **options)


def test_a_value_that_is_not_a_spine_is_refused(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_text("no")
    with pytest.raises(TerminalError, match="cannot be read as a Parquet file"):
        made(shop, SERVICE, tmp_path / "x.parquet")
    with pytest.raises(TerminalError, match="a spine is a pandas, Polars or Arrow table"):
        made(shop, SERVICE, {"shop": ["a"]})
    with pytest.raises(TerminalError, match=r"no one type each"):
        made(shop, SERVICE, pd.DataFrame({"shop": ["a", 1]}))
    with pytest.raises(DefinitionError, match="has no rows of its own"):
        made(shop, SERVICE)
    with pytest.raises(DefinitionError, match="has no time zone"):
        made(shop, SERVICE, spine_of(1), as_of=datetime(2020, 1, 1))  # noqa: DTZ001 - that is the point
    missing = spine_of(5).with_columns(at=pl.when(pl.col("note") != "row 3").then("at"))
    with pytest.raises(TerminalError, match=r"'at' is missing in 1 rows, the first is row 3"):
        made(shop, SERVICE, missing).to_polars()


def test_a_file_without_a_manifest_says_so(tmp_path: Path) -> None:
    spine_of(3).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(TerminalError, match="has no manifest of a training set"):
        headrace.rebuild(tmp_path / "x.parquet", settings=Settings())


def test_a_failed_write_leaves_no_file(shop: Shop, tmp_path: Path) -> None:
    missing = spine_of(5).with_columns(at=pl.when(pl.col("note") != "row 3").then("at"))
    with pytest.raises(TerminalError):
        made(shop, SERVICE, missing).to_parquet(tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_is_not_there_says_which_are(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace import Project

    monkeypatch.setattr("headrace.app.training_sets.load_project", lambda _: Project(services={"shops": SERVICE}))
    assert made(shop, "shops", spine_of(2)).manifest.name == "shops"
    with pytest.raises(
        ProjectError, match=r"no model, feature service or view 'shop'; it has the services \['shops'\]"
    ):
        made(shop, "shop", spine_of(2))
    with pytest.raises(ProjectError, match="no model 'shops'"):
        made(shop, "shops")
