"""Fields that take single records out of an entity's values again, for a look-up that leaves a record out.

A record has added its own part to the tiles of its entity. A field with the negative part, merged with the entity's
fields, takes it out. This is exact for whole numbers. A sum of doubles differs by at most 1e-9 of the sum of the
absolute terms, the record's own among them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import UNSET

from headrace.bus.source_partition import NO_CLOCK
from headrace.errors import DefinitionError, RequestValueError
from headrace.features.kernel.field import fronts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import polars as pl

    from headrace.bus.stream_spec import FieldSpec
    from headrace.features.kernel.tile_kernel import TileKernel


def fields_without(kernel: TileKernel, events: Sequence[Mapping[str, Any]]) -> list[bytes | None]:
    """Return for each event the field that takes it out of its entity's values; None for one that the view leaves out.

    Raises DefinitionError for a view with other aggregates than sums, and RequestValueError for an event that lacks a
    field of the view.
    """
    if not kernel.is_additive:
        message = f"view {kernel.spec.name!r} has aggregates that cannot leave one event out: only sums and counts can"
        raise DefinitionError(message)
    if kernel.spec.roles is not UNSET:
        message = f"view {kernel.spec.name!r} has roles, and cannot leave one event out of them"
        raise DefinitionError(message)
    frame = _frame(kernel, events)
    kept = kernel.keep(frame)
    found: list[bytes | None] = [None] * len(events)
    for row, field in zip(kept.get_column("__row_offset").to_list(), _fields(kernel, kept), strict=True):
        found[row] = field
    return found


def _frame(kernel: TileKernel, events: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """Return the events as the kernel takes them; ``__row_offset`` is the event's place among them."""
    import polars as pl  # noqa: PLC0415 - keeps `import headrace.serving` light

    from headrace.bus.codec import column_type  # noqa: PLC0415

    spec = kernel.spec
    used_fields = spec.fields_of(spec.stream.topic)
    for event in events:
        lacking = [name for name in used_fields if name not in event]
        if lacking:
            message = (
                f"the request lacks {lacking}: view {spec.name!r} leaves the request's own event out, and needs the "
                f"event's fields {used_fields}; the request has {sorted(event)}"
            )
            raise RequestValueError(message)
    used = [field for field in spec.stream.fields if field.name in used_fields]
    try:
        columns = [pl.Series(f.name, [_stored(f, event[f.name]) for event in events], column_type(f)) for f in used]
    except (ArithmeticError, AttributeError, TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        message = f"the request is not an event of {spec.stream.topic!r}, as view {spec.name!r} needs it: {error}"
        raise RequestValueError(message) from error
    frame = pl.DataFrame(columns)
    time = frame.get_column(spec.stream.event_time).cast(pl.Int64).alias("__time")
    return frame.hstack([time, pl.Series("__row_offset", np.arange(len(events)))])


def _stored(field: FieldSpec, value: Any) -> Any:
    """Return a value of a request as a column takes it."""
    if value is None:
        return None
    if field.keyed:
        return [{"key": key, "value": item} for key, item in value.items()]
    return Decimal(str(value)) if field.kind == "decimal" else value


def _fields(kernel: TileKernel, events: pl.DataFrame) -> list[bytes]:
    """Return a field for each event, with one tile of each size. Its header moves neither V, nor clock, nor age."""
    negative = kernel.negated(kernel.lift(events))
    times, ones = events.get_column("__time").to_numpy(), np.ones(len(negative), np.int64)
    heads = fronts(
        (np.zeros_like(ones), np.full_like(ones, NO_CLOCK), np.full_like(ones, NO_CLOCK)),
        np.ones((len(negative), len(kernel.sizes)), np.int64),
    )
    parts: list[Sequence[bytes]] = [heads]
    for size in kernel.sizes:
        negative["k"] = np.floor_divide(times, size)
        parts.extend(kernel.layout.split(negative, ones))
    return [b"".join(of_event) for of_event in zip(*parts, strict=True)]
