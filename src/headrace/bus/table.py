"""Tables: topics whose records are new versions of rows, and deletes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from headrace.bus.formats.debezium import Debezium
from headrace.bus.stream import AfterEventTime, Stream
from headrace.bus.stream_spec import AVAILABLE_AT, StreamSpec
from headrace.bus.table_keys import TableKeys
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from headrace.bus.event import Field

_KEY_KINDS = frozenset({"str", "int"})


@dataclass(frozen=True)
class Table(Stream):
    """A topic whose records are versions of a table's rows: changes of a database, or upserts on a compacted topic.

    ``key`` names the fields that identify a row. A record with a row makes it the row of its key, whether the key was
    there before or not. A delete takes the row away. It is a tombstone (a record without a value), or a change with the
    op ``d`` of :class:`headrace.Debezium`. The newest record of a key counts, by event time, partition and offset.

    Without ``event_time`` the event time of a record is its ``available_at``. So within a partition the last record of
    a key counts, as in a compacted topic. For upserts that come out of order ``event_time`` names a datetime field. A
    tombstone has no fields, so its event time is its ``available_at``. All other arguments are those of
    :class:`headrace.Stream`.

    Raises DefinitionError if there is no key, if a key field is not a plain ``str`` or ``int``, if the format has no
    deletes, and whenever a stream does.

    >>> from headrace import Debezium, Event, Table
    >>> class Customer(Event):
    ...     customer_id: int
    ...     plan: str
    ...     credit_limit: float | None
    >>> customers = Table("shop.public.customers", Customer, key="customer_id", format=Debezium())
    >>> customers.spec.table, customers.spec.key
    (True, ('customer_id',))
    """

    event_time: str = AVAILABLE_AT

    def __post_init__(self) -> None:
        self._check_types()
        where = f"table {self.topic!r}"
        if not self.key_fields:
            raise DefinitionError(f"{where} has no key: name the fields that identify a row, such as key='customer_id'")
        if self.unique_fields:
            message = f"{where}: leave unique={self.unique!r} out: a table has no duplicates, as a row may come again"
            raise DefinitionError(message)
        if not self.format.has_deletes:
            raise DefinitionError(f"{where}: a table is read from Json() or Debezium(…), not from {self.format!r}")
        super().__post_init__()
        if self.has_event_time and isinstance(self.format, Debezium):
            message = (
                f"{where}: event_time={self.event_time!r} cannot order the changes of a database: a delete has no row "
                "to take it from. Leave it out: a connector writes the changes of a row in their order"
            )
            raise DefinitionError(message)

    @property
    def has_event_time(self) -> bool:
        """True if a field of the event says when a version of a row was made."""
        return self.event_time != AVAILABLE_AT

    def _check_key(self, field: Field) -> None:
        if field.kind not in _KEY_KINDS or not field.is_single or field.path or "." in field.name:
            message = (
                f"table {self.topic!r}: key field {field.name!r} of {self.event.__name__} is no plain field of the "
                "kind str or int: take such fields as the key, as the keys of records have them"
            )
            raise DefinitionError(message)

    def _check_times(self) -> None:
        if self.has_event_time:
            super()._check_times()
            if "." in self.event_time:
                message = f"table {self.topic!r}: event_time={self.event_time!r} is a nested field: name a plain one"
                raise DefinitionError(message)
        elif isinstance(self.available_at, AfterEventTime):
            message = f"table {self.topic!r}: available_at={self.available_at!r} needs an event_time: name a field"
            raise DefinitionError(message)
        elif self.available_field is not None:
            self._check_is_time(self.available_field)

    @cached_property
    def time_bounds(self) -> list[tuple[str, str | None]]:
        """The pairs (field, bound) of :attr:`headrace.Stream.time_bounds`; none for times that are the record's."""
        if self.has_event_time:
            return super().time_bounds
        return [] if self.available_field is None else [(self.available_field, None)]

    @cached_property
    def table_keys(self) -> TableKeys:
        """The key fields of its rows."""
        return TableKeys(self.event, self.key_fields)

    @cached_property
    def spec(self) -> StreamSpec:
        """The table as data: what the worker and the readers of the event log know of it."""
        return msgspec.structs.replace(super().spec, table=True)
