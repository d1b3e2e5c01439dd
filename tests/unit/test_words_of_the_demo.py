"""The package knows nothing of flights, the demo's domain: only examples in docstrings have its words."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.documents import ROOT

SOURCES = ROOT / "src" / "headrace"
FILES = sorted(path.relative_to(SOURCES).as_posix() for path in SOURCES.rglob("*.py"))
DOMAIN = re.compile(r"(?<!in\.)flight|carrier|airport", re.IGNORECASE)  # Kafka has requests in flight


@pytest.mark.parametrize("file", FILES)
def test_words_of_the_demo_stand_in_docstrings_alone(file: str) -> None:
    source = (SOURCES / file).read_text("utf-8")
    places = {number for number, line in enumerate(source.splitlines(), 1) if DOMAIN.search(line)}
    assert places - docstring_lines(source) == set()


def docstring_lines(source: str) -> set[int]:
    """The numbers of the lines of all docstrings."""
    lines: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(
            node
        ):
            lines |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines
