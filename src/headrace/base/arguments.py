"""Checks of what a definition is given: a wrong type is named where it was written, not where it is used later."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import cast

from headrace.errors import DefinitionError

_SHOWN = 60
"""The characters of a wrong value that an error shows."""


def expect(where: str, name: str, value: object, kinds: type | tuple[type, ...], *, write: str) -> None:
    """Raise DefinitionError unless the argument is of one of these types. ``write`` says what to write, by an example.

    >>> from headrace.base.arguments import expect
    >>> expect("model 'delay'", "first_after", "many", int, write="a whole number, such as 20_000")
    Traceback (most recent call last):
        ...
    headrace.errors.DefinitionError: model 'delay': first_after='many' is a str; write a whole number, such as 20_000
    """
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds in {int, (int, float)}):
        raise DefinitionError(_wrong(where, name, value, write))


def expect_items(where: str, name: str, value: object, kinds: type | tuple[type, ...], *, write: str) -> None:
    """Raise DefinitionError unless the argument is a list whose items are all of one of these types."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise DefinitionError(_wrong(where, name, value, write))
    for item in value:
        expect(where, f"{name}, item", item, kinds, write=write)


def expect_values(where: str, name: str, value: object, kinds: type | tuple[type, ...], *, write: str) -> None:
    """Raise DefinitionError unless the argument is a dict from names to values of one of these types."""
    if not isinstance(value, Mapping):
        raise DefinitionError(_wrong(where, name, value, write))
    for key, item in value.items():
        expect(where, name, key, str, write=write)
        expect(where, f"{name}[{key!r}]", item, kinds, write=write)


def expect_names(where: str, name: str, value: object, *, write: str) -> None:
    """Raise DefinitionError unless the argument is a text, or a list of different texts."""
    if isinstance(value, str):
        return
    expect_items(where, name, value, str, write=write)
    names = list(cast("Sequence[str]", value))
    if len(set(names)) != len(names):
        raise DefinitionError(f"{where}: {name}={_shown(value)} names one twice; write each once")


def _wrong(where: str, name: str, value: object, write: str) -> str:
    return f"{where}: {name}={_shown(value)} is {_kind(value)}; write {write}"


def _shown(value: object) -> str:
    text = getattr(value, "__name__", "") if inspect.isclass(value) or inspect.isroutine(value) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "a class"
    if inspect.isroutine(value):
        return "a function"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
