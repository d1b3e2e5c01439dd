"""docs/reference/windows.md: each picture is what the kernel says, each kind of window has one, and names are right."""

from __future__ import annotations

import re
import typing

import pytest

import headrace
from headrace.features.definitions.windows import Window, window_spec
from tests.support.documents import ROOT, blocks
from tests.support.window_drawing import DAYS, drawn, rows_line

PAGE = "docs/reference/windows.md"
NAMES = {name: getattr(headrace, name) for name in headrace.__all__ if name[0].isupper() and name.isalpha()}
PICTURES = [block.text for block in blocks(PAGE, "text") if block.text.startswith(DAYS.rstrip())]
LINES = [line for text in PICTURES for line in text.splitlines()[1:] if line != rows_line()]


def window_of(code: str) -> Window:
    """The window that a line of the page is about."""
    return typing.cast("Window", eval(code, {}, NAMES))


@pytest.mark.parametrize("line", LINES, ids=[line.split("  ")[0] for line in LINES])
def test_a_line_of_a_picture_is_drawn_by_the_kernel(line: str) -> None:
    code = re.split(r" {2,}| (?=[▮·])", line)[0]
    assert line == drawn(code, window_of(code))


def test_every_kind_of_window_has_a_picture() -> None:
    kinds = {part.__name__ for part in typing.get_args(Window) if part.__module__.startswith("headrace.features")}
    for kind in kinds:
        assert any(line.startswith(f"{kind}(") for line in LINES), kind
    assert any("lag=" in line for line in LINES)


def test_names_of_columns_in_the_table_are_those_of_the_windows() -> None:
    text = (ROOT / PAGE).read_text("utf-8").partition("| window | columns end in |")[2].partition("\n\n")[0]
    for code, name in re.findall(r"^\| \[?`([^`]+)`[^|]*\| `_(\w+)` \|", text, re.MULTILINE):
        assert window_spec(window_of(code)).name == name
    assert len(text.splitlines()) == 14
