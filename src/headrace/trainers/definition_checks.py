"""Checks of a model's definition: what a request brings, and whether it counts itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from msgspec import UNSET

from headrace.bus.table import Table
from headrace.errors import DefinitionError
from headrace.features.definitions.feature_spec import SUMS_OF_RECORDS, OwnEventRule
from headrace.features.definitions.vectors import is_of_vectors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.event import Field
    from headrace.bus.stream import Stream
    from headrace.features.definitions.service_spec import RequestField
    from headrace.features.definitions.view import FeatureView


def check_is_no_table(where: str, stream: Stream) -> None:
    """Raise DefinitionError for a table: its rows come and go, and requests and labels are events that stay."""
    if isinstance(stream, Table):
        message = f"{where} is the table {stream.topic!r}; it has to be a Stream, whose events stay"
        raise DefinitionError(message)


def check_own_event(model: str, topic: str, rule: OwnEventRule | None, views: Sequence[FeatureView]) -> None:
    """Raise DefinitionError unless the rule for the own event is there exactly if it is needed, and can be kept.

    ``views`` are the views that are made from the requests' ``topic``.
    """
    names = [view.name for view in views]
    if not names and rule is not None:
        message = (
            f"model {model!r}: own_event={rule!r} has no effect: no view is made from the requests' stream {topic!r}; "
            "remove it"
        )
        raise DefinitionError(message)
    if names and rule not in get_args(OwnEventRule):
        message = (
            f"model {model!r}: own_event={rule!r}, and views {names} are made from the requests' stream {topic!r}, so "
            "a look-up may come before or after its own request is counted; choose 'included' (a prediction waits "
            "until its event is counted; training counts it too) or 'excluded' (neither counts it)"
        )
        raise DefinitionError(message)
    if rule == "excluded":
        _check_roles(model, views)
        _check_sums(model, views)
        _check_windows(model, views)


def _check_roles(model: str, views: Sequence[FeatureView]) -> None:
    names = [view.name for view in views if view.spec.roles is not UNSET]
    if names:
        message = (
            f"model {model!r}: own_event='excluded' is not possible with {names}: a view with roles cannot leave one "
            "event out; use own_event='included', or a view of the stream alone"
        )
        raise DefinitionError(message)


def _check_sums(model: str, views: Sequence[FeatureView]) -> None:
    kept = [
        f"{view.name}.{feature.name} ({feature.aggregate})"
        for view in views
        for feature in view.spec.features
        if not isinstance(feature, SUMS_OF_RECORDS) or is_of_vectors(feature)
    ]
    if kept:
        message = (
            f"model {model!r}: own_event='excluded' is not possible with {kept}: only count, sum, mean, histogram, "
            "ratio, count_by and sum_by of numbers can leave one event out; use own_event='included', or other features"
        )
        raise DefinitionError(message)


def _check_windows(model: str, views: Sequence[FeatureView]) -> None:
    of_rows = [f"{view.name}: {window.name}" for view in views for window in view.spec.windows if window.is_of_rows]
    if of_rows:
        message = (
            f"model {model!r}: own_event='excluded' is not possible with the windows {of_rows}: without its own event "
            "a request would see an older row, or another session; use own_event='included', or other windows"
        )
        raise DefinitionError(message)


def check_categories(model: str, names: Sequence[str], kinds: Mapping[str, str]) -> None:
    """Raise DefinitionError unless each of the categories is an input of the model that is a text or a whole number.

    ``kinds`` has the kind of each input.
    """
    choices = [name for name, kind in kinds.items() if kind in {"str", "int"}]
    wrong = [name for name in names if name not in choices]
    if wrong:
        known = {name: kinds[name] for name in wrong if name in kinds}
        message = (
            f"model {model!r}: categories name {wrong}, which {f'have the kinds {known}' if known else 'are no inputs'}"
            f"; the texts and whole numbers among its features and request_features are {choices}"
        )
        raise DefinitionError(message)
    if len(set(names)) != len(names):
        raise DefinitionError(f"model {model!r}: categories={list(names)} names an input twice")


def one_of(where: str, field_: str, value: object, choices: Sequence[str]) -> None:
    """Raise DefinitionError unless the value is one of the choices."""
    if value not in choices:
        message = f"{where}: {field_}={value!r}; choose one of {list(choices)}"
        raise DefinitionError(message)


def described(wanted: RequestField) -> str:
    """Return the name and kind of a field that a service asks for."""
    return f"{wanted.name!r} ({wanted.expression_kind}{' | None' if wanted.nullable else ''})"


def brings(field: Field, wanted: RequestField) -> bool:
    """Return whether a request's field can give the value that a service asks for.

    An int may stand for a float. The field may be null only if the service allows null.
    """
    is_kind = field.kind == wanted.kind or (field.kind, wanted.kind) == ("int", "float")
    is_form = not field.keyed and field.many == (wanted.many is True)
    return is_kind and is_form and (wanted.nullable or not field.nullable)
