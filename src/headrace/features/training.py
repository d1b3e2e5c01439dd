"""Features for a spine: value(V, t) of every row in order, from the event log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.features.kernel import kernel
from headrace.features.point_in_time import Queries, ViewHistory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.log import EventLog, LogReader
    from headrace.features.online import Source


class FeatureHistory:
    """The event log of some views, read incrementally, for point-in-time queries.

    The index of a view is built anew when its stream has new rows.
    """

    def __init__(self, specs: Sequence[Mapping[str, Any]], log: EventLog) -> None:
        self._specs = list(specs)
        self._readers: dict[str, LogReader] = {
            spec["source"]["topic"]: log.reader(spec["source"]["topic"]) for spec in specs
        }
        self._rows: dict[str, list[pl.DataFrame]] = {topic: [] for topic in self._readers}
        self._views: dict[str, ViewHistory] = {}

    def refresh(self) -> None:
        """Read what is new in the log."""
        for topic, reader in self._readers.items():
            new = reader.read()
            if not self._rows[topic] or not new.is_empty():
                self._rows[topic] = [pl.concat([*self._rows[topic], new])]
                for spec in self._specs:
                    if spec["source"]["topic"] == topic:
                        self._views.pop(spec["view"], None)

    def positions(self) -> dict[str, Mapping[Source, int]]:
        """Topic → source partition → the offset below which all was read."""
        return {topic: reader.positions() for topic, reader in self._readers.items()}

    def view(self, spec: Mapping[str, Any]) -> ViewHistory:
        """The index of one view."""
        if spec["view"] not in self._views:
            self._views[spec["view"]] = ViewHistory(spec, self._rows[spec["source"]["topic"]][0])
        return self._views[spec["view"]]

    def features(
        self, keys: pl.DataFrame, at_us: np.ndarray, served: Sequence[str | None] | None = None
    ) -> pl.DataFrame:
        """All feature columns of the views for each row of ``keys``, in order; null where there is no value.

        ``served`` is a row's V as logged (JSON: view → source partition → next offset). Where it is None, or is not
        given at all, V is what was available at t minus the view's delay. Where a look-up at the logged V had to say
        ``out_of_range``, there is no value here either: a model is not shown what it could not have seen.
        """
        logged = [None if text is None else _DECODE(text) for text in served] if served is not None else None
        columns: list[pl.Series] = []
        for spec in self._specs:
            history = self.view(spec)
            offsets = history.known_at(at_us, spec["delay_us"])
            unknown = np.zeros(len(at_us), bool)
            if logged is not None:
                _overlay(offsets, history.sources, [None if v is None else v.get(spec["view"], {}) for v in logged])
                unknown = history.out_of_range(at_us, offsets) & np.array([v is not None for v in logged], bool)
            values = history.values(Queries(keys, at_us, offsets, history.sources))
            columns += [
                pl.Series(name, found).set(pl.Series(~present | unknown), None)
                for name, (found, present) in zip(kernel(spec).columns, values, strict=True)
            ]
        return pl.DataFrame(columns)


_DECODE = msgspec.json.Decoder(dict[str, dict[str, int]]).decode


def _overlay(offsets: np.ndarray, sources: Sequence[Source], logged: Sequence[Mapping[str, int] | None]) -> None:
    """Replace V by what was logged, where it was; a source that the log line lacks had no record then."""
    rows = np.array([row for row, found in enumerate(logged) if found is not None], np.int64)
    for column, source in enumerate(sources):
        name = source.text
        offsets[rows, column] = [logged[row].get(name, 0) for row in rows.tolist()]
