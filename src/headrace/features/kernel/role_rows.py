"""Rows of streams to rows of a view: in a view with roles, each record is one row for each role of its stream.

::

    record of transfers, offset 7 ──┬── role 1: card = sender,   amount = -amount   ──┐
                                    └── role 2: card = receiver, amount =  amount   ──┴──> two rows of offset 7

    record of orders, offset 3 ──── explode="items" ──┬── item 1: items.sku = a ──┬──> two rows of offset 3
                                                      └── item 2: items.sku = b ──┘

Both rows have the record's offset, so they are below the same V, and a batch never parts them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl
from msgspec import UNSET

from headrace.bus.nested_columns import flat
from headrace.features.definitions.decimals import lowered, places_of
from headrace.features.definitions.expression_kinds import is_decimal, kind
from headrace.features.definitions.view_spec import NO_KEY, NO_KEY_VALUE
from headrace.features.kernel.expression_polars import to_polars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.role_spec import RoleSpec
    from headrace.features.definitions.view_spec import ViewSpec

_ROW, _ROLE = "__row", "__role"
SIGN = "__sign"
"""The column that is -1 where a row takes an earlier one back, of a view in which rows do."""


def with_time(frame: pl.DataFrame, event_time: str) -> pl.DataFrame:
    """Return the frame as the kernel needs it: with ``__time`` (event time in us), ``__row_offset``, and structs flat.

    Fields of events keep their names, and none of theirs begins with two underscores.
    """
    frame = flat(frame)
    time, offset = frame.get_column(event_time).cast(pl.Int64), frame.get_column("__offset")
    return frame.hstack([time.alias("__time"), offset.alias("__row_offset")])


def in_roles(rows: pl.DataFrame, spec: ViewSpec, topic: str) -> pl.DataFrame:
    """Return accepted rows of one of a view's streams, as :func:`with_time` returns them, as rows of the view.

    In a view without roles they are the same; rows of a global entity get its join key. In a role, a row whose event
    time is null, or lies after the record's ``available_at`` by more than the stream's tolerance, is left out. The rows
    stay in the order of their records.
    """
    found = rows if spec.roles is UNSET else _in_roles(rows, spec, topic)
    return found.with_columns(pl.lit(NO_KEY_VALUE).alias(NO_KEY)) if spec.entity.is_global else found


def _in_roles(rows: pl.DataFrame, spec: ViewSpec, topic: str) -> pl.DataFrame:
    roles, numbered = spec.roles_of(topic), rows.with_row_index(_ROW)
    own = [name for name in numbered.columns if name.startswith("__")]
    parts = [_in_role(numbered, role, own, spec.used_columns) for role in roles]
    if spec.takes_back:
        signs = [-1 if role.takes_back is True else 1 for role in roles]
        parts = [part.with_columns(pl.lit(sign, pl.Int64).alias(SIGN)) for part, sign in zip(parts, signs, strict=True)]
    if len(parts) == 1:
        return parts[0].drop(_ROW)
    by_role = (part.with_columns(pl.lit(number).alias(_ROLE)) for number, part in enumerate(parts))
    return pl.concat(list(by_role)).sort(_ROW, _ROLE, maintain_order=True).drop(_ROW, _ROLE)


def view_rows(rows: pl.DataFrame, spec: ViewSpec, topic: str) -> pl.DataFrame:
    """Return accepted rows of the log, of one of a view's streams, as rows of the view."""
    return in_roles(with_time(rows, spec.stream_of(topic).event_time), spec, topic)


def _in_role(rows: pl.DataFrame, role: RoleSpec, own: Sequence[str], names: Sequence[str]) -> pl.DataFrame:
    time, latest = pl.col(role.time_field).cast(pl.Int64), pl.col("__available_at").cast(pl.Int64)
    columns = [_column(role, name).alias(name) for name in names]
    if role.explode is not UNSET:
        rows = flat(rows.filter(pl.col(role.explode).list.len() > 0).explode(role.explode))
    if role.where is not UNSET:
        rows = rows.filter(to_polars(lowered(role.where, role.field_kinds)))
    found = rows.select(*(name for name in own if name != "__time"), time.alias("__time"), *columns)
    if role.event_time is UNSET:
        return found
    return found.filter(pl.col("__time") <= latest + role.stream.tolerance_us)


def _column(role: RoleSpec, name: str) -> pl.Expr:
    """Return the expression of a column. A decimal is a decimal again, as it is in the log."""
    tree = role.trees.get(name, ["col", name])
    if tree[0] == "col":
        return to_polars(tree)
    found, units = kind(tree, role.field_kinds), to_polars(lowered(tree, role.field_kinds))
    if not is_decimal(found):
        return units
    places = places_of(found)
    decimals: pl.Expr = (units.cast(pl.Decimal(36, places)) / 10**places).cast(pl.Decimal(18, places))
    return decimals
