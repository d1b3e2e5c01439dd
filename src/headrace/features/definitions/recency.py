"""Aggregates of the times of rows: how long ago the newest one was, since when there are rows, and how far apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, get_args

from headrace.errors import DefinitionError
from headrace.features.definitions.feature_spec import AgeSpec, GapKind, GapSpec, SinceSpec
from headrace.features.definitions.measured import Value, optional_tree, where_tree

if TYPE_CHECKING:
    from headrace.features.definitions.expression import Expression
    from headrace.features.definitions.feature_spec import FeatureSpec


@dataclass(frozen=True, eq=False)
class _OfTimes:
    value: Value | None = None
    where: Expression | None = None
    _spec: ClassVar[type[FeatureSpec]]

    @cached_property
    def spec(self) -> FeatureSpec:
        """The aggregate as data, without the name that a view gives it."""
        return self._spec(value=optional_tree(self.value), where=where_tree(self.where))


class Since(_OfTimes):
    """The seconds from the newest row of the window to t; with a value, from the newest row in which it is not null.

    It is 0 if t lies before that row, and null over no rows.

    >>> from headrace import Since, col
    >>> last_seen, last_refused = Since(), Since(where=col("refused"))
    >>> last_refused.spec.where
    ['col', 'refused']
    """

    _spec = SinceSpec


class Age(_OfTimes):
    """The seconds from the first row of the window to t; with a value, from the first row in which it is not null.

    Over :class:`Lifetime` it is the age of the entity. It is 0 if t lies before that row, and null over no rows.

    >>> from headrace import Age
    >>> Age().spec.aggregate
    'age'
    """

    _spec = AgeSpec


@dataclass(frozen=True, eq=False)
class Gap:
    """The seconds between rows that follow each other in event time: their ``"mean"``, or the ``"last"`` one.

    The mean is (newest - first) / (rows - 1). The last one is between the two newest rows: 0 if they have one time.
    Both are null over fewer than two rows. With a value, rows in which it is null do not count.

    There is no smallest and no largest gap. The rows of two partitions, or late ones, lie between each other, and
    whether a gap is left is not known from parts that are merged.

    >>> from headrace import Gap
    >>> Gap("last").spec.of
    'last'
    """

    of: GapKind
    value: Value | None = None
    where: Expression | None = None

    def __post_init__(self) -> None:
        of: object = self.of
        if of in ("min", "max"):
            message = (
                f"Gap({self.of!r}): the smallest and the largest gap cannot be merged: rows of another partition, and "
                "late rows, may lie inside a gap. Choose 'mean' or 'last'"
            )
            raise DefinitionError(message)
        if not isinstance(of, str) or of not in get_args(GapKind):
            message = f"Gap({self.of!r}): choose one of {list(get_args(GapKind))}; a value is Gap('mean', 'amount')"
            raise DefinitionError(message)

    @cached_property
    def spec(self) -> GapSpec:
        """The aggregate as data, without the name that a view gives it."""
        return GapSpec(of=self.of, value=optional_tree(self.value), where=where_tree(self.where))
