"""What a look-up answers: values with V, t, age and status."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from headrace.features.online.value_columns import lists_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from headrace.features.kernel.on_demand import GivenColumns, OnDemandFeatures
    from headrace.features.kernel.states import Values


class Status(StrEnum):
    """What is known of one entity in one view, worst first."""

    OUT_OF_RANGE = "out_of_range"
    """The time asked for is older than what the store still knows: there is no value."""
    REBUILDING = "rebuilding"
    """A source partition is missing or catching up: the value may lack events."""
    STALE = "stale"
    """No sign of life of a worker, or the newest event is older than the view's ``max_age``."""
    MISSING = "missing"
    """The store knows no event of this entity."""
    PRESENT = "present"
    """The value is complete at V."""


@dataclass(frozen=True)
class ViewAnswer:
    """One view's part of a look-up; arrays have one item a row. ``age_us`` is -1 where no event is known.

    ``keys`` are the join keys of its entity.
    """

    view: str
    version: str
    columns: Sequence[str]
    values: Sequence[Values]
    statuses: Sequence[Status]
    age_us: np.ndarray
    offsets: Sequence[Mapping[str, int]]
    keys: Sequence[str] = ()


@dataclass(frozen=True)
class FeatureVectors:
    """The answer to a look-up of ``rows`` rows at ``at_us`` (t, microseconds UTC).

    ``on_demand`` are the columns that were made of those of the views and of the request's values.
    """

    rows: int
    at_us: int
    views: Sequence[ViewAnswer]
    on_demand: Mapping[str, Values] = field(default_factory=dict)

    @cached_property
    def columns(self) -> list[str]:
        """The names of the feature columns, in the service's order."""
        return [*(column for view in self.views for column in view.columns), *self.on_demand]

    def with_on_demand(self, features: OnDemandFeatures, given: GivenColumns) -> FeatureVectors:
        """The same answer, with on-demand features after the columns of the views."""
        if not features.names:
            return self
        found = {name: values for view in self.views for name, values in zip(view.columns, view.values, strict=True)}
        made = features.values(found, given, self.rows)
        return replace(self, on_demand=dict(zip(features.names, made, strict=True)))

    def _values(self) -> Sequence[Values]:
        return [*(values for view in self.views for values in view.values), *self.on_demand.values()]

    def to_lists(self) -> list[list[Any]]:
        """One list of values a row; None where there is no value."""
        found = [lists_of(view.values, place) for view in self.views for place in range(len(view.values))]
        found += [lists_of([values], 0) for values in self.on_demand.values()]
        columns = [values if all(present) else _with_none(values, present) for values, present in found]
        return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(self.rows)]

    def to_dicts(self) -> list[dict[str, Any]]:
        """One dict a row, by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.to_lists()]

    def to_numpy(self) -> np.ndarray:
        """A float64 matrix, one column a feature, NaN where there is no value."""
        columns = [np.where(present, values, np.nan) for values, present in self._values()]
        return np.column_stack(columns) if columns else np.zeros((self.rows, 0))

    def to_pandas(self) -> pd.DataFrame:
        """A float64 DataFrame."""
        import pandas as pd  # noqa: PLC0415 - comes with headrace[serving]

        return pd.DataFrame(self.to_numpy(), columns=self.columns)

    def statuses(self, row: int = 0) -> dict[str, Status]:
        """View → status of one row."""
        return {view.view: view.statuses[row] for view in self.views}

    def ages_us(self, row: int = 0) -> dict[str, int | None]:
        """View → microseconds from the newest known event to t, None where there is none."""
        return {view.view: int(view.age_us[row]) if view.age_us[row] >= 0 else None for view in self.views}

    def offsets(self, row: int = 0) -> dict[str, Mapping[str, int]]:
        """V of one row: view → source partition → next offset."""
        return {view.view: view.offsets[row] for view in self.views}


def _with_none(values: Sequence[Any], present: Sequence[bool]) -> list[Any]:
    return [value if there else None for value, there in zip(values, present, strict=True)]
