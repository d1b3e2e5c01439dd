from __future__ import annotations

import math
import struct
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest

from headrace.app.demo import chart
from headrace.errors import MissingExtraError

if TYPE_CHECKING:
    from pathlib import Path

DAYS = list(range(15_750, 15_880))
FROZEN = [0.74 + 0.01 * math.sin(day / 13) for day in DAYS]
LIVE = [value + 0.0002 * index for index, value in enumerate(FROZEN)]
VERSIONS = [(1, 15_745), (2, 15_770), (3, 15_772), (4, 15_820)]
pytestmark = pytest.mark.slow


def colours(path: Path) -> tuple[tuple[int, ...], int]:
    image = pytest.importorskip("matplotlib.image").imread(path)
    return image.shape[:2], len(np.unique(image.reshape(-1, image.shape[2]), axis=0))


def test_the_picture_is_1200_by_600_and_not_blank(tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    chart.draw(path, DAYS, LIVE, FROZEN, VERSIONS)
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (1200, 600)
    assert colours(path) >= ((600, 1200), 100)


def test_the_same_numbers_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        chart.draw(tmp_path / name, DAYS, LIVE, FROZEN, VERSIONS)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.parametrize(
    ("days", "values", "versions"),
    [([], [], []), ([15_750], [math.nan], [(1, 15_749)]), ([15_750], [0.7], []), ([1, 2, 3], [math.nan, 0.7, 0.7], [])],
)
def test_short_runs_have_a_picture_too(
    tmp_path: Path, days: list[int], values: list[float], versions: list[tuple[int, int]]
) -> None:
    chart.draw(tmp_path / "short.png", days, values, values, versions)
    assert colours(tmp_path / "short.png")[1] > 2


def test_without_matplotlib_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"headrace\[demo\]"):
        chart.draw(tmp_path / "none.png", DAYS, LIVE, FROZEN, VERSIONS)
