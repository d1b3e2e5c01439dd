"""What the rules have in common: how a verdict is made, and checks of what a user gives."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import numpy as np

from headrace.base.times import Duration, duration_us
from headrace.errors import DefinitionError, naming
from headrace.trainers.triggers.evidence import DAY_US
from headrace.trainers.triggers.trigger_rule import RuleVerdict

if TYPE_CHECKING:
    from collections.abc import Sequence


def verdict_of(rule: str, fired: bool, reason: str, progress: float) -> RuleVerdict:  # noqa: FBT001 - as a field
    """Return a verdict. A rule that fires has the progress 1, another one at most that."""
    return RuleVerdict(
        rule=rule, fired=fired, reason=reason, progress=1.0 if fired else float(np.clip(progress, 0.0, 1.0))
    )


def check_positive(where: str, value_: object) -> None:
    """Raise DefinitionError unless it is a number above 0."""
    if not isinstance(value_, int | float) or isinstance(value_, bool):
        raise DefinitionError(f"{where}: {value_!r} is {type(value_).__name__}; write a number above 0")
    if not value_ > 0:
        message = f"{where}: {value_!r} is not above 0"
        raise DefinitionError(message)


def check_whole_days(where: str, duration: Duration) -> None:
    """Raise DefinitionError unless it is a duration of whole days."""
    with naming(where):
        length_us = duration_us(duration)
    if length_us < DAY_US or length_us % DAY_US:
        message = f"{where}: {duration!r} is not a whole number of days, such as '14d': whole days are compared"
        raise DefinitionError(message)


def expect_rules(where: str, name: str, rules: Sequence[object]) -> None:
    """Raise DefinitionError unless all of these are trigger rules."""
    for rule in rules:
        if isinstance(rule, type) or not (hasattr(rule, "measure") and hasattr(rule, "judge")):
            shown = f"the function {rule.__name__}" if inspect.isroutine(rule) else repr(rule)
            message = f"{where}: {name}={shown} is not a trigger rule; write one, such as volume(labels=20_000)"
            raise DefinitionError(message)
