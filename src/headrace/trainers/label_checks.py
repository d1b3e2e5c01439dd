"""Checks of a label's value: which task it is for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from headrace.errors import DefinitionError
from headrace.models.prediction_task import PredictionTask, TaskName
from headrace.trainers.definition_checks import one_of

if TYPE_CHECKING:
    from collections.abc import Sequence


_KINDS: dict[TaskName, tuple[str, ...]] = {
    "binary": ("bool",),
    "classes": ("str", "int"),
    "regression": ("int", "float"),
    "quantile": ("int", "float"),
}
_TWO = 2


class DeclaredLabel(NamedTuple):
    """What a label says of its value. ``where`` begins the errors, and ``kind`` is that of the value."""

    where: str
    kind: str
    task: TaskName | None
    classes: Sequence[Any]
    limits: Sequence[Any]
    quantiles: Sequence[Any]


def prediction_task(label: DeclaredLabel) -> PredictionTask:
    """Return the task of a label: the declared one, or the one that follows from its value.

    Raises DefinitionError if value, task, classes, limits and quantiles do not fit together.
    """
    where, kind, found = label.where, label.kind, _found(label)
    one_of(where, "task", found, get_args(TaskName))
    if kind == "str" and found == "regression" and label.task is None:
        raise DefinitionError(f"{where}: value is str; name its classes, such as classes=['early', 'late']")
    kinds = _KINDS["regression" if label.limits else found]
    if kind not in kinds:
        message = (
            f"{where}: value is {kind}; for task={found!r} it is {' or '.join(kinds)}. A condition, such as "
            "col('delay_minutes') > 15, is bool"
        )
        raise DefinitionError(message)
    _check_given(where, found, "classes", label.classes, "classes", "['early', 'late']")
    _check_given(where, found, "quantiles", label.quantiles, "quantile", "[0.1, 0.5, 0.9]")
    if label.limits:
        _check_limits(label)
    return PredictionTask(name=found, classes=_classes(label), quantiles=_quantiles(where, label.quantiles))


def _found(label: DeclaredLabel) -> TaskName:
    if label.task is not None:
        return label.task
    if label.classes or label.limits:
        return "classes"
    if label.quantiles:
        return "quantile"
    return "binary" if label.kind == "bool" else "regression"


def _check_given(  # noqa: PLR0917 - a private function
    where: str, task: TaskName, field: str, given: Sequence[Any], of_task: TaskName, example: str
) -> None:
    if (task == of_task) != bool(given):
        hint = f"write {field}={example}" if task == of_task else "remove it"
        raise DefinitionError(f"{where}: task={task!r} with {field}={list(given)!r}; {hint}")


def _check_limits(label: DeclaredLabel) -> None:
    rising = all(isinstance(each, int | float) and math.isfinite(each) for each in label.limits)
    rising = rising and list(label.limits) == sorted(set(label.limits))
    if not rising or len(label.limits) != len(label.classes) - 1:
        message = (
            f"{label.where}: limits={label.limits!r} with classes={label.classes!r}; write rising numbers, one between "
            "each two classes, such as classes=['on time', 'late', 'very late'] and limits=[15, 60]"
        )
        raise DefinitionError(message)


def _classes(label: DeclaredLabel) -> tuple[str | int, ...]:
    found: tuple[Any, ...] = () if isinstance(label.classes, str) else tuple(label.classes)
    types = {type(each) for each in found}
    where, kind = label.where, label.kind
    wanted = [{int}, {str}] if label.limits else [{str if kind == "str" else int}]
    if label.classes and (types not in wanted or len(found) < _TWO or len(set(found)) < len(found)):
        message = (
            f"{where}: classes={label.classes!r} of a value that is {kind}; write two or more different values of it, "
            "such as ['early', 'late'] or [0, 1, 2]"
        )
        raise DefinitionError(message)
    return found


def _quantiles(where: str, quantiles: Sequence[Any]) -> tuple[float, ...]:
    found = tuple(quantiles)
    if not all(isinstance(each, float) and 0 < each < 1 for each in found) or list(found) != sorted(set(found)):
        message = f"{where}: quantiles={quantiles!r}; write rising numbers between 0 and 1, such as [0.1, 0.5, 0.9]"
        raise DefinitionError(message)
    return found
