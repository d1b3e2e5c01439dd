"""Roles: a stream as one of several sources of a view, under the view's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import NoneType
from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.base.arguments import expect, expect_values
from headrace.bus.stream import Stream
from headrace.bus.table import Table
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression import Expression, as_expression
from headrace.features.definitions.expression_kinds import written_kind
from headrace.features.definitions.expression_tree import is_text
from headrace.features.definitions.role_spec import DerivedColumn, RoleSpec

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, init=False)
class Role:
    """A stream as a source of a view, with other names for its fields.

    ``columns`` says for each of the view's names which field of the stream it is, or by which expression it is
    computed. All other fields keep their names. A view may take a stream in several roles: then each record counts once
    in each. Names with dots come as a dict: ``Role(transfers, {"card.id": "sender.id"})``.

    Raises DefinitionError for a field that the stream does not have, or an expression that its fields do not allow.

    >>> from datetime import datetime
    >>> from headrace import Count, Entity, Event, FeatureView, Role, Stream, Sum, col
    >>> class Payment(Event):
    ...     card: str
    ...     amount: float
    ...     at: datetime
    >>> class Transfer(Event):
    ...     sender: str
    ...     receiver: str
    ...     amount: float
    ...     sent_at: datetime
    >>> payments = Stream("payments", Payment, event_time="at")
    >>> transfers = Stream("transfers", Transfer, event_time="sent_at")
    >>> balance = FeatureView(
    ...     "balance",
    ...     entity=Entity("card", str),
    ...     source=[
    ...         Role(payments, amount=-col("amount")),
    ...         Role(transfers, card="sender", amount=-col("amount")),
    ...         Role(transfers, card="receiver"),
    ...     ],
    ...     windows=["1d"],
    ...     features={"change": Sum("amount"), "moves": Count()},
    ... )
    >>> balance.spec.topics
    ['payments', 'transfers']
    """

    stream: Stream
    columns: Mapping[str, Expression | str]
    event_time: str | None
    where: Expression | None
    takes_back: bool
    explode: str | None

    def __init__(
        self,
        stream: Stream,
        names: Mapping[str, Expression | str] | None = None,
        /,
        *,
        event_time: str | None = None,
        where: Expression | None = None,
        takes_back: bool = False,
        explode: str | None = None,
        **columns: Expression | str,
    ) -> None:
        """``event_time`` names the field that says when a row of this role happened, if it is not the stream's.

        ``where`` keeps the records on which it is true; it reads the stream's fields. With ``takes_back`` a row of this
        role takes an earlier row back: counts and sums have it with the other sign, in the tile of ``event_time``.
        ``explode`` names a field that is a list: then each of its items is a row, and a record with an empty list has
        none. A field of an item has the name of the list, a dot, and its own name.
        """
        expect("role", "stream", stream, Stream, write="a Stream, such as Stream('orders', Order, …)")
        of = f"role of {stream.topic!r}"
        expect(of, "names", names, (Mapping, NoneType), write="a dict of columns, such as {'card.id': 'sender.id'}")
        columns = {**(names or {}), **columns}
        given = {"stream": stream, "columns": columns, "event_time": event_time, "where": where}
        for name, value in {**given, "takes_back": takes_back, "explode": explode}.items():
            object.__setattr__(self, name, value)
        if isinstance(stream, Table):
            raise DefinitionError(f"{of}: it is a Table, and a table has no roles: write the table itself as source=")
        expect_values(of, "columns", columns, (Expression, str), write="a field's name, or an expression")
        reserved = [name for name in columns if not name or name.startswith("__") or not is_text(name)]
        if reserved:
            message = f"{of}: columns {reserved}: a name needs a letter, may not begin with '__', and has UTF-8"
            raise DefinitionError(message)
        expect(of, "where", where, (Expression, NoneType), write="a condition, such as col('kind') == 'refund'")
        expect(of, "takes_back", takes_back, bool, write="True or False")
        self._check_event_time(of)
        self._check_explode(of)
        with naming(of):
            _ = self.spec.kinds
        self._check_where(of)

    def _check_event_time(self, where: str) -> None:
        expect(where, "event_time", self.event_time, (str, NoneType), write="the name of a datetime field")
        if self.event_time is not None:
            field = self.stream.field(self.event_time)
            if field.kind != "datetime" or not field.is_single:
                message = f"{where}: event_time={self.event_time!r} is {field.kind}; write the name of a datetime field"
                raise DefinitionError(message)

    def _check_explode(self, where: str) -> None:
        expect(where, "explode", self.explode, (str, NoneType), write="the name of a list, such as 'items'")
        lists = [field.name for field in self.stream.columns if field.many and field.vector is None]
        if self.explode is not None and self.explode not in lists:
            raise DefinitionError(f"{where}: explode={self.explode!r} is no list; the lists of the stream are {lists}")

    def _check_where(self, of: str) -> None:
        if self.where is not None:
            with naming(f"{of}: where"):
                found = written_kind(self.where.tree, self.spec.field_kinds)
            if found != "bool":
                raise DefinitionError(f"{of}: where is {found}; a filter is bool, such as col('kind') == 'refund'")

    @property
    def spec(self) -> RoleSpec:
        """The role as data."""
        columns = (DerivedColumn(name, as_expression(value).tree) for name, value in self.columns.items())
        return RoleSpec(
            stream=self.stream.spec,
            columns=tuple(columns),
            event_time=UNSET if self.event_time is None else self.event_time,
            where=UNSET if self.where is None else self.where.tree,
            takes_back=self.takes_back or UNSET,
            explode=UNSET if self.explode is None else self.explode,
        )


def roles_of(where: str, source: Stream | Role | Sequence[Stream | Role]) -> list[Role] | None:
    """Return the roles of a view's sources; None if its source is one plain stream. Raises DefinitionError."""
    if isinstance(source, Stream):
        return None
    given = [source] if isinstance(source, Role) else source
    if not isinstance(given, list | tuple) or not given or not all(isinstance(each, Stream | Role) for each in given):
        message = f"{where}: source={source!r}: write a Stream, a Role, or a list of them, such as [payments, refunds]"
        raise DefinitionError(message)
    roles = [each if isinstance(each, Role) else Role(each) for each in given]
    topics = {role.stream.topic: role.stream for role in roles}
    for role in roles:
        if topics[role.stream.topic].spec != role.stream.spec:
            message = f"{where}: source has two streams of the topic {role.stream.topic!r}: take one of them"
            raise DefinitionError(message)
    return roles
