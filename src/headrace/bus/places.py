"""The number of places of a Decimal, and the decimals that a column with so many places can hold."""

from __future__ import annotations

import decimal
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from headrace.base.redaction import shortened
from headrace.errors import DefinitionError

if TYPE_CHECKING:
    from collections.abc import Sequence

DIGITS = 18
"""The largest number of digits of a Decimal: so many fit into 64 bits."""
_EXACT = decimal.Context(prec=2 * DIGITS, traps=[])
_LONGEST = 60
"""Characters of a number in an error."""


@dataclass(frozen=True)
class Places:
    """The number of ``places`` of a Decimal after the point. The Decimal has at most 18 digits in all.

    >>> from decimal import Decimal
    >>> from typing import Annotated
    >>> from headrace import Event, Places
    >>> class Payment(Event):
    ...     amount: Annotated[Decimal, Places(2)]
    >>> Payment(Decimal("12.50")).amount
    Decimal('12.50')
    """

    places: int

    def __post_init__(self) -> None:
        if type(self.places) is not int or not 0 <= self.places <= DIGITS:
            raise DefinitionError(f"Places({self.places!r}): give a whole number from 0 to {DIGITS}")

    def fits(self, values: Sequence[Decimal]) -> bool:
        """Return whether a column holds each number exactly. Zeros at the end are no places."""
        return all(map(self._fits, values))

    def _fits(self, value: Decimal) -> bool:
        if not value.is_finite() or (value and value.adjusted() + self.places >= DIGITS):
            return False
        exponent = value.as_tuple().exponent
        return not isinstance(exponent, int) or exponent >= -self.places or self._has_zeros_beyond(value)

    def _has_zeros_beyond(self, value: Decimal) -> bool:
        return value == self.rounded(value)

    def rounded(self, value: Decimal) -> Decimal:
        """Return the number with exactly these places. One that fits keeps its value."""
        return value.quantize(Decimal(1).scaleb(-self.places), context=_EXACT)

    def problem(self, value: Decimal) -> str:
        """Return what is wrong with a number that does not fit."""
        text = shortened(str(value), _LONGEST)
        if not value.is_finite():
            return f"{text} is no number"
        if value and value.adjusted() + self.places >= DIGITS:
            most = DIGITS - self.places
            return f"{text} is too large: Places({self.places}) leaves {most} digits before the point"
        return f"{text} has more than {self.places} places after the point"
