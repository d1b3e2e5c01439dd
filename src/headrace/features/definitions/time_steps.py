"""Steps of times: their parts in a zone, and the time between two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from headrace.base.zones import time_zone
from headrace.features.definitions.operators import Operators

if TYPE_CHECKING:
    from headrace.features.definitions.operators import Operand


class TimeSteps(Operators):
    """The steps of a time.

    A zone is a name of the IANA database, such as ``America/New_York``. Its rules come from the package ``tzdata``.
    """

    __slots__ = ()

    def year(self, *, zone: str | None = None) -> Self:
        """Return an expression for the year of a time, in UTC or in a zone."""
        return self._local(zone).step("year")

    def month(self, *, zone: str | None = None) -> Self:
        """Return an expression for the month of a time, 1 to 12, in UTC or in a zone."""
        return self._local(zone).step("month")

    def day(self, *, zone: str | None = None) -> Self:
        """Return an expression for the day of the month of a time, from 1, in UTC or in a zone."""
        return self._local(zone).step("day")

    def weekday(self, *, zone: str | None = None) -> Self:
        """Return an expression for the day of the week of a time, Monday 1 to Sunday 7 (ISO), in UTC or in a zone."""
        return self._local(zone).step("weekday")

    def hour(self, *, zone: str | None = None) -> Self:
        """Return an expression for the hour of a time, 0 to 23, in UTC or in a zone."""
        return self._local(zone).step("hour")

    def minute(self, *, zone: str | None = None) -> Self:
        """Return an expression for the minute of a time, 0 to 59, in UTC or in a zone."""
        return self._local(zone).step("minute")

    def date(self, *, zone: str | None = None) -> Self:
        """Return an expression for the date of a time, in UTC or in a zone."""
        return self._local(zone).step("date")

    def _local(self, zone: str | None) -> Self:
        if zone is None:
            return self
        time_zone(zone)
        return self.step_with_data("in_zone", zone, write="a time zone, such as 'Europe/Berlin'")

    def seconds_since(self, earlier: Operand) -> Self:
        """Return an expression for the seconds from another time to this one, with microseconds; negative before it.

        A date is its midnight in UTC.
        """
        return self.step("seconds_since", earlier)
