"""docs/reference/aggregates.md says what the aggregates do: its table is checked, row by row."""

from __future__ import annotations

import re
import typing
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import headrace
from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.features.definitions.aggregates import Aggregate
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Window
from headrace.features.kernel.tile_kernel import TileKernel, kernel

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "aggregates.md").read_text()
WINDOWS = (Path(__file__).parents[2] / "docs" / "reference" / "windows.md").read_text()
TABLE = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.partition("| aggregate |")[2].partition("\n\n")[0].splitlines()[2:]
]
ROWS = [(code, cells) for cells in TABLE for code in re.findall(r"`(\w+\([^`]*\))`", cells[0])]
GIVEN = {"x": "x", "y": "y", "k": "k", "n": 3, "half_life": "1h", "q": 0.5, "edges": [0.0, 1.0]}


class Seen(Event):
    key: str
    at: datetime
    x: float | None
    y: float | None
    k: str | None


def compiled(code: str) -> TileKernel:
    call = re.sub(r"\bprecision=10|\berror=0.01", "", code)
    made: Aggregate = eval(call, vars(headrace) | {n: getattr(headrace, n) for n in headrace.__all__}, GIVEN)
    seen = Stream("seen", Seen, event_time="at")
    return kernel(FeatureView("v", Entity("key"), seen, ["1h"], {"f": made}).spec)


def names_of(union: object) -> set[str]:
    return {part.__name__ for part in typing.get_args(union) if part.__module__.startswith("headrace.features")}


def test_every_aggregate_and_window_is_on_the_page_and_public() -> None:
    assert {code.partition("(")[0] for code, _ in ROWS} == names_of(Aggregate)
    for name in names_of(Aggregate) | names_of(Window):
        assert name in headrace.__all__
        assert f"{name}(" in PAGE + WINDOWS


@pytest.mark.parametrize(("code", "cells"), ROWS, ids=[code for code, _ in ROWS])
def test_the_table_of_the_page_is_right_about_no_rows_errors_and_bytes(code: str, cells: list[str]) -> None:
    of = compiled(code)
    _, _, nothing, error, size = cells
    values = of.finish(of.empty, np.array([0]))
    found = [value.tolist()[0] if there[0] else None for value, there in values]
    assert found == [{"null": None, "an empty list": []}.get(nothing, 0)] * len(found)
    assert [output.exact for output in of.outputs] == [error != "≈"] * len(of.outputs)
    if size[0].isdigit():
        each = int(re.match(r"\d+", size)[0])  # type: ignore[index]
        assert of.layout.stored.itemsize - 8 == each * (
            3 if ("a bucket" in size or "a category" in size) and "+" not in size else 1
        )
