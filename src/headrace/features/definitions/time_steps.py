"""Steps of times: their parts, and the time between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from headrace.features.definitions.operators import Operators

if TYPE_CHECKING:
    from headrace.features.definitions.operators import Operand


class TimeSteps(Operators):
    """The steps of a time."""

    __slots__ = ()

    def year(self) -> Self:
        """Return an expression for the year of a time, in UTC."""
        return self.step("year")

    def month(self) -> Self:
        """Return an expression for the month of a time, 1 to 12, in UTC."""
        return self.step("month")

    def day(self) -> Self:
        """Return an expression for the day of the month of a time, from 1, in UTC."""
        return self.step("day")

    def weekday(self) -> Self:
        """Return an expression for the day of the week of a time, Monday 1 to Sunday 7 (ISO), in UTC."""
        return self.step("weekday")

    def hour(self) -> Self:
        """Return an expression for the hour of a time, 0 to 23, in UTC."""
        return self.step("hour")

    def minute(self) -> Self:
        """Return an expression for the minute of a time, 0 to 59, in UTC."""
        return self.step("minute")

    def seconds_since(self, earlier: Operand) -> Self:
        """Return an expression for the seconds from another time to this one, with microseconds; negative before it.

        A date is its midnight in UTC.
        """
        return self.step("seconds_since", earlier)
