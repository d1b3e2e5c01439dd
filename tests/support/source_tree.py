"""The Python files of the repository as text and as syntax trees, for tests about how the code is built."""

from __future__ import annotations

import ast
from functools import cache, cached_property
from typing import TYPE_CHECKING, NamedTuple

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class Definition(NamedTuple):
    """A name that a file defines, and the line."""

    name: str
    line: int


class SourceFile:
    """One file; ``name`` is its path below the folder that was asked for."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.name = path.relative_to(folder).as_posix()
        self.text = path.read_text()

    def __repr__(self) -> str:
        return self.name

    @cached_property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return ast.parse(self.text)

    @property
    def lines(self) -> int:
        """How many lines the file has."""
        return self.text.count("\n")

    @cached_property
    def classes(self) -> list[ast.ClassDef]:
        """The classes of the module, also those inside other classes and functions."""
        return list(_classes(self.tree.body))

    def aliases(self) -> list[Definition]:
        """The names in CamelCase that are assigned at the top of the file: aliases of types, type variables."""
        assigned = [
            (target.id, target.lineno)
            for statement in _top_level(self.tree)
            for target in _targets(statement)
            if isinstance(target, ast.Name)
        ]
        return [Definition(name, line) for name, line in assigned if _is_camel_case(name)]


@cache
def python_files(folder: str) -> tuple[SourceFile, ...]:
    """The files below a folder of the repository, by name."""
    return tuple(SourceFile(path, ROOT / folder) for path in sorted((ROOT / folder).rglob("*.py")))


def _classes(body: Sequence[ast.stmt]) -> Iterator[ast.ClassDef]:
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            yield statement
        yield from _classes([*getattr(statement, "body", []), *getattr(statement, "orelse", [])])


def _top_level(tree: ast.Module) -> list[ast.stmt]:
    """The statements of the module, also below `if TYPE_CHECKING:`."""
    below = [
        statement for block in tree.body if isinstance(block, ast.If) for statement in (*block.body, *block.orelse)
    ]
    return [*tree.body, *below]


def _targets(statement: ast.stmt) -> list[ast.expr]:
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign) else []


def _is_camel_case(name: str) -> bool:
    bare = name.lstrip("_")
    return bare[:1].isupper() and not bare.isupper()
