"""The columns of files as the event log has them, without JSON between: for fields of plain types.

A row is taken only if each of its values is surely what a record with that value would give. The others are written as
JSON and read like records, which also finds the words of the error.
"""

from __future__ import annotations

import typing
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl

from headrace.bus.codec import column_type
from headrace.bus.wire import Epoch, TimeText
from headrace.errors import SettingsError
from headrace.features.kernel.local_times import from_zone
from headrace.streams.imports.wire_rows import FIRST_YEAR_MS, LAST_YEAR_MS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from headrace.bus.event import Event, Field
    from headrace.streams.imports.wire_rows import WireRows

_PLAIN = frozenset({int, float, bool, str})
_UTC = pl.Datetime("us", "UTC")


class ColumnFields:
    """Makes the fields of a stream from the columns of a file. ``zone``: that of times without one."""

    def __init__(self, event: type[Event], wire: WireRows, zone: str | None = None) -> None:
        self._event, self._wire, self._zone = event, wire, zone
        hints = typing.get_type_hints(event, include_extras=True)
        self.is_possible = not hasattr(event, "__post_init__") and all(
            _is_plain(field, hints[field.name]) for field in wire.fields
        )
        """False if a field is not of a plain type: then every row is read like a record."""
        self._defaults = {
            info.name: info.default for info in msgspec.structs.fields(event) if info.default is not msgspec.NODEFAULT
        }

    def fields(
        self, frame: pl.DataFrame, others: Collection[str] = (), *, is_text: bool
    ) -> tuple[pl.DataFrame, pl.Series] | None:
        """Return the fields of rows, and which rows are surely right. None if a column is not of its field's kind.

        ``others`` are the names of columns that the frame does not have, as they are of no such kind.
        """
        found: list[pl.Expr] = []
        right: list[pl.Expr] = []
        for field in self._wire.fields:
            column = self._wire.column(field, [*frame.columns, *others])
            if column in others:
                return None
            if column is None:
                found.append(self._absent(field))
                continue
            made = _made(field, frame.schema[column], pl.col(column), self._zone, is_text=is_text)
            if made is None:
                return None
            found.append(made.cast(column_type(field)).alias(field.name))
            empty = pl.col(column).is_null() | (made.is_null() & _is_nan(frame.schema[column], column))
            right.append(made.is_not_null() | empty if field.nullable else made.is_not_null())
        good = frame.select(pl.all_horizontal(right) if right else pl.lit(value=True)).to_series()
        return frame.select(found), good

    def _absent(self, field: Field) -> pl.Expr:
        return pl.lit(self._defaults.get(field.name), dtype=column_type(field)).alias(field.name)


def check_columns(names: Sequence[str], wire: WireRows, defaults: Mapping[str, Any], where: str) -> None:
    """Raise SettingsError if a file lacks the column of a field that is never null and has no default."""
    lacking = [
        field.name
        for field in wire.fields
        if wire.column(field, names) is None and not field.nullable and not field.path and field.name not in defaults
    ]
    if lacking:
        raise SettingsError(f"{where} has no column {', '.join(map(repr, lacking))}; it has {sorted(names)}")


def _is_plain(field: Field, hint: Any) -> bool:
    """Return whether any value of the field's kind is a value of the field."""
    if not field.is_single or not field.is_plain or field.path or field.kind in {"event", "decimal", "bytes"}:
        return False
    return field.kind in {"datetime", "date"} or _without_none(hint) in _PLAIN


def _without_none(hint: Any) -> Any:
    """Return the one type of ``T | None``, or the hint itself."""
    arms = [arm for arm in typing.get_args(hint) if arm is not type(None)]
    return arms[0] if len(arms) == 1 and type(None) in typing.get_args(hint) else hint


def _is_nan(dtype: pl.DataType, column: str) -> pl.Expr:
    return pl.col(column).is_nan().fill_null(value=False) if dtype.is_float() else pl.lit(value=False)


def _made(field: Field, dtype: pl.DataType, column: pl.Expr, zone: str | None, *, is_text: bool) -> pl.Expr | None:
    """Return a column as its field has it, null where it has no such value. None if all rows are to be read as JSON."""
    text = is_text and dtype == pl.String
    if field.kind == "datetime":
        return _time(field, dtype, column, zone)
    if field.kind == "int" and dtype.is_float():
        return pl.when(column == column.round()).then(column.cast(pl.Int64, strict=False))
    if field.kind == "float" and (dtype.is_numeric() or text):
        number = column.cast(pl.Float64, strict=False)
        return pl.when(number.is_finite()).then(number)
    if field.kind == "bool" and text:
        return column.str.to_lowercase().replace_strict({"true": True, "false": False}, default=None)
    is_same = {
        "int": dtype.is_integer() or text,
        "bool": dtype == pl.Boolean,
        "str": dtype == pl.String or isinstance(dtype, (pl.Categorical, pl.Enum)),
        "date": dtype == pl.Date,
    }
    return column.cast(column_type(field), strict=False) if is_same.get(field.kind) else None


def _time(field: Field, dtype: pl.DataType, column: pl.Expr, zone: str | None) -> pl.Expr | None:
    if isinstance(dtype, pl.Datetime):
        if dtype.time_zone is None and zone is None:
            message = f"column {field.name!r} has times without a zone: say which with --zone UTC, or another one"
            raise SettingsError(message)
        zoned = column
        if dtype.time_zone is None:
            zoned = column.map_batches(lambda series: utc_column(series, str(zone)), return_dtype=_UTC)
        return _near(zoned.dt.convert_time_zone("UTC").cast(_UTC))
    if dtype == pl.String and not isinstance(field.form, (Epoch, TimeText)):
        return _near(column.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=False))
    return None


def utc_column(column: pl.Series, zone: str) -> pl.Series:
    """Return times in UTC of what clocks in a zone show: the earlier one of two, and null for one that is skipped."""
    local = column.cast(pl.Datetime("us")).to_physical()
    micros, is_time = from_zone(local.fill_null(0).to_numpy(), zone)
    found = pl.Series(micros).set(pl.Series(~is_time), None).set(local.is_null(), None)
    return found.cast(_UTC).alias(column.name)


def _near(time: pl.Expr) -> pl.Expr:
    """Return null for a time that no datetime holds: its row is read like a record, and rejected."""
    return pl.when(time.to_physical().is_between(FIRST_YEAR_MS * 1_000, LAST_YEAR_MS * 1_000)).then(time)
