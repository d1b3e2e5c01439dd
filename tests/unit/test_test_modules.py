"""Rules for the tests themselves: what they may import, and how they are named."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.source_tree import SourceFile, python_files

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = python_files("tests")
TEST_MODULES = {
    f"tests.{file.name.removesuffix('.py').replace('/', '.')}" for file in FILES if re.search(r"(^|/)test_", file.name)
}
NO_UNIT = re.compile(r"test_(it|its|they|them|their|that|those|these|this|there|of|what|who)_")


@pytest.mark.parametrize("file", FILES, ids=repr)
def test_no_module_imports_a_test_module(file: SourceFile) -> None:
    assert TEST_MODULES.isdisjoint(imported(file)), "what tests share is in tests/support"


def imported(file: SourceFile) -> Iterator[str]:
    """The modules that a file imports; of `from a import b` both `a` and `a.b`."""
    for node in ast.walk(file.tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_a_title_begins_with_its_unit() -> None:
    titles = [
        f"{file.name}::{node.name}"
        for file in FILES
        for node in ast.walk(file.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(titles) > 800
    assert [title for title in titles if NO_UNIT.match(title.partition("::")[2])] == []


def test_a_title_names_one_test_of_its_file() -> None:
    for file in FILES:
        names = [node.name for node in file.tree.body if isinstance(node, ast.FunctionDef)]
        assert len(names) == len(set(names)), file
