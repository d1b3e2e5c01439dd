"""What Feast calls the statuses of a look-up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.serving.features import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

FEAST_STATUSES: Mapping[Status, str | None] = {
    Status.OUT_OF_RANGE: "OUTSIDE_MAX_AGE",
    Status.REBUILDING: "OUTSIDE_MAX_AGE",
    Status.STALE: "OUTSIDE_MAX_AGE",
    Status.MISSING: "NOT_FOUND",
    Status.PRESENT: None,
}
"""The names of Feast's FieldStatus; None: each feature's value decides between PRESENT and NULL_VALUE.

Feast has no word for a value that may lack events: what must not be taken for fresh is outside its age.
"""
