"""The names that applications use: what `headrace` and its public packages export, with parameters and attributes."""

from __future__ import annotations

import ast
import inspect
import textwrap
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGES = ["headrace", "headrace.testing", "headrace.serving", "headrace.serving.http"]
EXPORTED = [f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__]
UNITS = ("_us", "_ms", "_s")


@pytest.mark.parametrize("name", EXPORTED)
def test_no_public_parameter_or_attribute_ends_in_a_unit(name: str) -> None:
    """People give and get times as datetimes and durations."""
    exported = getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    assert [found for found in sorted(public_names(exported)) if found.endswith(UNITS)] == []


@pytest.mark.parametrize("name", [name for name in EXPORTED if not name.startswith("headrace.serving")])
def test_a_public_docstring_shows_an_example(name: str) -> None:
    """The example of a class may be in one of its methods. tests/integration/test_docstring_examples.py runs them."""
    exported = getattr(import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    documented = [exported, *vars(exported).values()] if inspect.isclass(exported) else [exported]
    assert any(">>> " in (getattr(each, "__doc__", None) or "") for each in documented)


def public_names(exported: Any) -> set[str]:
    """The attributes of a class, and the parameters of its methods or of a function."""
    attributes = set(_attributes(exported)) if inspect.isclass(exported) else set[str]()
    methods = [getattr(exported, attribute, None) for attribute in attributes]
    return attributes | {parameter for each in (exported, *methods) for parameter in _parameters(each)}


def _attributes(of: type) -> Iterator[str]:
    """Yield the public attributes: those of the class, its fields, and those that its methods set."""
    for each in of.__mro__:
        names = {*vars(each), *getattr(each, "__annotations__", {})}
        if each.__module__.startswith(("headrace.", __name__)):
            names |= _set_by_methods(each)
        yield from (name for name in names if not name.startswith("_"))


def _set_by_methods(of: type) -> set[str]:
    tree = ast.parse(textwrap.dedent(inspect.getsource(of)))
    targets = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store))
    return {target.attr for target in targets if isinstance(target.value, ast.Name) and target.value.id == "self"}


def _parameters(of: Any) -> Iterator[str]:
    """Yield the names of the parameters; none for a thing that cannot be called."""
    try:
        yield from inspect.signature(of).parameters
    except (TypeError, ValueError):
        return


def test_the_check_finds_names_with_a_unit() -> None:
    assert {"wait_s", "size_us", "at_ms"} <= public_names(_Wrong)


class _Wrong:
    size_us: int

    def __init__(self, at: int) -> None:
        self.at_ms = at

    def wait(self, wait_s: float) -> None:
        """Nothing."""
