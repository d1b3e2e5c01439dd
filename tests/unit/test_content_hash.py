"""The content hash of a training set tells any two sets apart and does not depend on how a set is cut."""

from __future__ import annotations

from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from headrace.features.offline.content_hash import content_hash


def test_different_content_has_different_hashes_and_known_hashes_stay() -> None:
    frame = pl.DataFrame(
        {
            "n": [1, None, 3], "x": [0.5, None, 0.0], "b": [True, None, False], "s": ["a", None, ""],
            "t": pl.Series([0, None, 5]).cast(pl.Datetime("us", "UTC")), "l": [[1], None, []],
        }
    )  # fmt: skip
    wanted = content_hash([frame])
    assert wanted == content_hash([frame[:1], frame[1:1], frame[1:]])
    assert wanted == "sha256:5eada73ca4e82dd3193b898d36631931d42d2d07dd692e2c02564d57e2dd24fb"
    others = [
        frame.with_columns(pl.col("n").fill_null(0)), frame.with_columns(pl.col("s").fill_null("")), frame[::-1],
        frame.with_columns(s=pl.Series(["", None, "a"])), frame.rename({"n": "m"}), frame.cast({"n": pl.Int32}),
    ]  # fmt: skip
    assert len({wanted, *(content_hash([other]) for other in others)}) == 7


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        (pl.Decimal(10, 2), [Decimal("1.50"), None, Decimal("-0.01")]),
        (pl.Decimal(38, 0), [Decimal(10**37), None, Decimal(0)]),
        (pl.Int128, [2**100, None, 0]),
        (pl.UInt128, [2**100, None, 0]),
        (pl.UInt64, [2**63 + 1, None, 0]),
        (pl.Float32, [0.5, None, 0.0]),
        (pl.Boolean, [True, None, False]),
        (pl.Date, [date(2020, 1, 1), None, date(1970, 1, 1)]),
        (pl.Time, [time(1), None, time(0)]),
        (pl.Duration("us"), [timedelta(1), None, timedelta(0)]),
        (pl.Binary, [b"a", None, b""]),
        (pl.Categorical, ["a", None, ""]),
        (pl.List(pl.Decimal(10, 2)), [[Decimal("1.50")], None, []]),
        (pl.Struct({"a": pl.Int64}), [{"a": 1}, None, {"a": 0}]),
    ],
)
def test_columns_of_each_type_have_a_hash(dtype: Any, values: list[Any]) -> None:
    frame = pl.DataFrame({"c": pl.Series(values, dtype=dtype)})
    wanted = content_hash([frame])
    assert wanted == content_hash([frame[:1], frame[1:1], frame[1:]])
    others = [
        frame.with_columns(pl.Series("c", [values[0], *rest], dtype=dtype)) for rest in ([values[2]] * 2, [None] * 2)
    ]
    assert len({wanted, *map(content_hash, ([other] for other in others)), content_hash([frame[::-1]])}) == 4
