"""The features of a view over a table: columns of the newest row of each key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from headrace.bus.stream_spec import DELETE, OPERATION
from headrace.bus.vector import dim_of
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression import Expression, as_expression
from headrace.features.definitions.expression_kinds import is_decimal, kind
from headrace.features.definitions.expression_tree import ExpressionTree, plain_column
from headrace.features.definitions.feature_spec import OtherKind, RowValueSpec
from headrace.features.definitions.spec import NUMBER_KINDS

if TYPE_CHECKING:
    from headrace.bus.table import Table
    from headrace.features.definitions.entity import Entity

_KINDS = [*NUMBER_KINDS, *get_args(OtherKind)]
_WRITE = "write names of columns, such as ['credit_limit'], or a dict, such as {'is_gold': col('plan') == 'gold'}"


def table_columns(view: str, features: object) -> dict[str, Expression]:
    """Return the expression of each feature. Raises DefinitionError for anything but columns and expressions."""
    if isinstance(features, Mapping):
        found: dict[Any, Any] = dict(features)
    elif isinstance(features, Sequence) and not isinstance(features, str):
        for name in features:
            if not isinstance(name, str):
                raise DefinitionError(f"view {view!r}: features has {name!r}; over a table {_WRITE}")
        found = {name: name for name in features}
    else:
        raise DefinitionError(f"view {view!r}: features={features!r}; over a table {_WRITE}")
    for name, value in found.items():
        if not isinstance(value, str | Expression):
            message = f"view {view!r}: feature {name!r} is {value!r}; a table has no aggregates: {_WRITE}"
            raise DefinitionError(message)
    return {name: as_expression(value) for name, value in found.items()}


def row_values(columns: Mapping[str, Expression], where: Expression | None) -> tuple[RowValueSpec, ...]:
    """Return the features as data: each is void after a delete, and while ``where`` is not true on the newest row."""
    there: ExpressionTree = ["ne", ["col", OPERATION], ["lit", DELETE]]
    if where is not None:
        there = ["and", there, where.tree]
    return tuple(RowValueSpec(name=name, value=column.tree, where=there) for name, column in columns.items())


def check_entity(view: str, entity: Entity, table: Table) -> None:
    """Raise DefinitionError unless the entity is the table's key: a delete has no other field."""
    keys = list(entity.join_keys)
    if sorted(keys) != sorted(table.key_fields):
        message = (
            f"view {view!r}: entity {entity.name!r} has the join keys {keys}, the table {table.topic!r} the key "
            f"{list(table.key_fields)}: a view over a table belongs to the table's key"
        )
        raise DefinitionError(message)


def check_column(view: str, feature: RowValueSpec, kinds: Mapping[str, str]) -> None:
    """Raise DefinitionError for a feature of a kind that a view cannot have."""
    where = f"view {view!r}: feature {feature.name!r}"
    with naming(where):
        found = kind(feature.value, kinds)
    if found in _KINDS or is_decimal(found) or dim_of(found) is not None:
        return
    name = plain_column(feature.value)
    of = f"{where} of {name!r}" if name else where
    raise DefinitionError(f"{of} is {found}; a feature of a table is one of {_KINDS}, a decimal or a vector")
