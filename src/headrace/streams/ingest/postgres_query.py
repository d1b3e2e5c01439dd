"""The SQL with which a source of database rows reads: Postgres itself writes each row as a JSON record of the stream.

So numbers keep all their digits, and no type of Postgres needs a type of Python.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from headrace.bus.wire import Epoch
from headrace.errors import SettingsError
from headrace.streams.imports.column_fields import check_columns
from headrace.streams.imports.wire_rows import WireRows

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.bus.event import Field, Kind
    from headrace.bus.stream import Stream

_TIME, _LOCAL_TIME = "timestamp with time zone", "timestamp without time zone"
_NUMBERS = frozenset({"smallint", "integer", "bigint", "numeric", "real", "double precision"})
_NUMBERED = frozenset({"smallint", "integer", "bigint", "numeric"})
_JSON = frozenset({"json", "jsonb"})
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class PostgresColumn(NamedTuple):
    """A column of a query. ``type`` is Postgres's name of its type, and ``category`` that of ``pg_type``.

    >>> PostgresColumn("paid_at", "timestamp with time zone", "D").type
    'timestamp with time zone'
    """

    name: str
    type: str
    category: str


@dataclass(frozen=True)
class PostgresRows:
    """Which rows are read: those of a ``table`` or of a ``query``, in the order of the watermark and of the key."""

    watermark: str
    key: tuple[str, ...]
    table: str | None = None
    query: str | None = None
    zone: str | None = None

    @property
    def sql(self) -> str:
        """The query, or the table as one. The table's name is taken letter by letter, after its schema and a dot."""
        if self.query is not None:
            return self.query.strip().rstrip(";").replace("%", "%%")  # % begins a parameter
        return "SELECT * FROM " + ".".join(map(quoted, str(self.table).split(".")))  # noqa: S608 - the setting is SQL

    @property
    def identity(self) -> str:
        """What a position is one of. With another table, watermark or key an old position means nothing."""
        return f"{self.query or self.table} by {', '.join((self.watermark, *self.key))}"

    def columns_sql(self) -> str:
        """Return the statement whose answer has the columns and no row."""
        return f"SELECT * FROM ({self.sql}) q LIMIT 0"  # noqa: S608 - the setting is SQL


class PostgresStatements:
    """The statements for one stream and the columns that are there. Raises SettingsError if they do not fit.

    >>> from datetime import datetime
    >>> from headrace import Event, Stream
    >>> class Sale(Event):
    ...     id: int
    ...     at: datetime
    >>> there = [PostgresColumn("id", "bigint", "N"), PostgresColumn("at", "timestamp with time zone", "D")]
    >>> rows = PostgresRows("id", ("id",), table="shop.sales")
    >>> PostgresStatements(Stream("sales", Sale, event_time="at"), rows, there, "the table").newest()
    'SELECT max(q."id")::text FROM (SELECT * FROM "shop"."sales") q'
    """

    def __init__(self, stream: Stream, rows: PostgresRows, there: Sequence[PostgresColumn], where: str) -> None:
        self._rows, self._where = rows, where
        self._there = {column.name: column for column in there}
        self._wire = WireRows(stream.event, stream.columns, rows.zone)
        infos = msgspec.structs.fields(stream.event)
        check_columns([*self._there], self._wire, {info.name: info for info in infos if not info.required}, where)
        for setting, name in (("watermark", rows.watermark), *(("key", name) for name in rows.key)):
            if name not in self._there:
                raise SettingsError(f"{where} has no column {name!r}, the {setting}; it has {sorted(self._there)}")
        self._watermark = self._there[rows.watermark]
        self._check_watermark()
        self._record = self._written_record(stream.columns)

    @property
    def is_timed(self) -> bool:
        """True if the watermark is a time, False if it is a number."""
        return self._watermark.type in {_TIME, _LOCAL_TIME}

    def newest(self, lag_s: float = 0.0) -> str:
        """Return the statement that answers with the bound of a look, as text.

        It is the largest watermark if that is a number, else the time on the server's clock, ``lag_s`` seconds ago.
        """
        if not self.is_timed:
            return f"SELECT max({self._column(self._rows.watermark)})::text FROM ({self._rows.sql}) q"  # noqa: S608
        now = f"clock_timestamp() - make_interval(secs => {lag_s!r})"
        return f"SELECT ({now})::text" if self._watermark.type == _TIME else f"SELECT ({now} AT TIME ZONE 'UTC')::text"

    @property
    def unread(self) -> str:
        """The statement that says whether there are rows without a watermark or a key, which are never read."""
        names = (self._rows.watermark, *self._rows.key)
        absent = " OR ".join(f"{self._column(name)} IS NULL" for name in names)
        return f"SELECT EXISTS (SELECT FROM ({self._rows.sql}) q WHERE {absent})"  # noqa: S608

    def rows(self, *, is_first: bool) -> str:
        """Return the statement for the rows after a position, up to a bound: watermark, key, and record.

        Its parameters are the bound, and then the watermark and the key of the position, unless ``is_first``.
        """
        names = (self._rows.watermark, *self._rows.key)
        columns = [self._column(name) for name in names]
        bound = f"{columns[0]} {'<' if self.is_timed else '<='} {self._parameter(names[0])}"
        later = f" AND ({', '.join(columns)}) > ({', '.join(map(self._parameter, names))})"
        keys = ", ".join(f"{column}::text" for column in columns[1:])
        there = "".join(f" AND {column} IS NOT NULL" for column in columns[1:])
        return (
            f"SELECT {columns[0]}::text, ARRAY[{keys}], {self._record} FROM ({self._rows.sql}) q "  # noqa: S608
            f"WHERE {bound}{there}{'' if is_first else later} ORDER BY {', '.join(columns)}"
        )

    def _check_watermark(self) -> None:
        column = self._watermark
        if column.type == _LOCAL_TIME and self._rows.zone != "UTC":
            raise SettingsError(
                f'{self._where}: the watermark {column.name!r} has times without a zone: with zone = "UTC" they are '
                "times of UTC. In other zones the clock goes back once a year: write a query with AT TIME ZONE"
            )
        if column.type not in {_TIME, _LOCAL_TIME} | _NUMBERED:
            raise SettingsError(
                f"{self._where}: the watermark {column.name!r} is of type {column.type}; it has to be a timestamp or a "
                "whole number that grows"
            )

    def _column(self, name: str) -> str:
        return f"q.{quoted(name)}"

    def _parameter(self, name: str) -> str:
        return f"%s::{self._there[name].type}"

    def _written_record(self, fields: Sequence[Field]) -> str:
        tree: dict[str, Any] = {}
        for field in fields:
            column = self._wire.column(field, [*self._there])
            if column is None and not field.nullable:
                continue  # its default
            *objects, last = field.path or (self._wire.written(field),)
            place = tree
            for name in objects:
                place = place.setdefault(name, {})
            place[last] = "NULL" if column is None else self._value(field, self._there[column])
        return f"({_object(tree)})::text"

    def _value(self, field: Field, column: PostgresColumn) -> str:
        self._check_type(field, column)
        value = self._column(column.name)
        if column.type == "bytea":
            return f"replace(encode({value}, 'base64'), chr(10), '')"
        if column.type == _LOCAL_TIME and field.kind == "datetime":
            value = f"({value} AT TIME ZONE {_text(str(self._rows.zone))})"
        if isinstance(field.form, Epoch) and column.type in {_TIME, _LOCAL_TIME}:
            number = f"floor(extract(epoch FROM {value}) * {_PER_SECOND[field.form.unit]})::bigint"
            return f"CASE WHEN isfinite({value}) THEN {number} END"
        return value

    def _check_type(self, field: Field, column: PostgresColumn) -> None:
        where = f"{self._where}: column {column.name!r} is of type {column.type}"
        if not _has_form(field, column):
            what = "list" if field.many else "dict" if field.keyed else field.kind
            raise SettingsError(
                f"{where}, which has no form for {field.name!r}, a field of kind {what}: cast it in a query"
            )
        if column.type == _LOCAL_TIME and field.kind == "datetime" and self._rows.zone is None:
            raise SettingsError(f'{where}: say with zone = "UTC", or another one, of which zone its times are')


def _has_form(field: Field, column: PostgresColumn) -> bool:
    """Return whether the JSON that Postgres writes of a column can be a value of the field."""
    if not field.is_single:
        return column.type in _JSON or (field.many and column.category == "A")
    is_text = column.category in {"S", "E"} or column.type == "name"
    is_time, is_number = column.type in {_TIME, _LOCAL_TIME}, column.type in _NUMBERS
    has_time = is_time if field.form is None else isinstance(field.form, Epoch) and (is_time or is_number)
    takes: dict[Kind, bool] = {
        "int": is_number,
        "float": is_number,
        "decimal": is_number or is_text,
        "bool": column.category == "B",
        "datetime": has_time or is_text,
        "date": column.type == "date" or is_text,
        "bytes": column.type == "bytea" or is_text,
        "event": column.type in _JSON or column.category == "C",
        "str": not is_number and column.type not in {*_JSON, "bytea"} and column.category not in {"A", "B", "C"},
    }
    return takes[field.kind]


def _object(tree: Mapping[str, Any]) -> str:
    """Return the expression for a JSON object. Unlike ``json_build_object`` it takes any number of fields."""
    parts = ", ".join(
        f"{_object(value) if isinstance(value, dict) else value} AS {quoted(name)}" for name, value in tree.items()
    )
    return f"(SELECT row_to_json(r) FROM (SELECT {parts}) r)"  # noqa: S608


def quoted(name: str) -> str:
    """Return an identifier of SQL, taken letter by letter.

    >>> print(quoted('The "new" one'))
    "The ""new"" one"
    """
    return '"' + name.replace('"', '""').replace("%", "%%") + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
