"""Audit and skew of one model, from the event log alone: what `headrace audit` and `headrace skew` tell."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from headrace.features.log import ACCEPTED
from headrace.features.training import FeatureHistory, Gap
from headrace.models.predictions import VECTORS
from headrace.trainers.audit import Served, audit, lag_records, skew

if TYPE_CHECKING:
    from headrace.features.log import EventLog
    from headrace.trainers.audit import Comparison
    from headrace.trainers.definitions import Model

_USED = ["key", "requested_at", "served_at", "service", "values", "statuses", "offsets", "request", "model"]


class Counts(msgspec.Struct, frozen=True):
    """Of one feature: values that are equal, that differ, and that only one side has."""

    matched: int
    mismatched: int
    missing: int


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of recomputing the served vectors of a model at their logged V and t.

    ``not_logged``: vectors whose V is beyond the event log, so far; they are not compared. ``other_services``: vectors
    of services that are defined otherwise by now, by the service's hash; nor are they. ``gaps``: offsets that the log
    lacks, which explain a mismatch after them.
    """

    model: str
    service: str
    checked: int
    mismatched: int
    out_of_range: int
    not_logged: int
    other_services: dict[str, int]
    features: dict[str, Counts]
    gaps: list[Gap]
    examples: list[dict[str, Any]]


class SkewReport(msgspec.Struct, frozen=True, kw_only=True):
    """The share of served values that a training set has at the same key and t, without knowing V; by feature too.

    ``lag_records``: quantiles of how many records the served V was behind what was available.
    """

    model: str
    service: str
    checked: int
    equal: int
    features: dict[str, float]
    lag_records: dict[str, float]
    examples: list[dict[str, Any]]

    @property
    def share(self) -> float:
        """The share of vectors that are equal; 1 where there are none."""
        return self.equal / self.checked if self.checked else 1.0


class Auditor:
    """Compares what was served of one model with the event log, as of one look at it.

    ``since_us`` leaves out what was served before. Raises OfflineStoreUnavailableError.
    """

    def __init__(self, model: Model, log: EventLog, *, since_us: int | None = None) -> None:
        self._model, self._log, self._since_us = model, log, since_us
        self._specs = [view.spec for view in model.features.views]

    @cached_property
    def _vectors(self) -> pl.DataFrame:
        own = (ds.field("__verdict") == ACCEPTED) & (ds.field("model") == self._model.name)
        if self._since_us is not None:
            own &= ds.field("served_at") >= pa.scalar(self._since_us, pa.timestamp("us", "UTC"))
        return self._log.select(VECTORS.topic, own, _USED)

    @cached_property
    def _served(self) -> Served:
        """Those of the service as it is defined now. The log is read after them, so that it is not behind."""
        own = self._vectors.filter(pl.col("service") == self._model.features.version)
        history = FeatureHistory(self._specs, self._log)
        history.refresh()
        return Served(self._specs, history, own)

    @cached_property
    def _beyond(self) -> np.ndarray:
        """Which vectors saw records that the log does not have, so far or any more."""
        served, ends = self._served, self._served.history.positions()
        beyond = np.zeros(served.vectors.height, bool)
        for spec, offsets, unknown in zip(self._specs, served.offsets, served.logged.unknown, strict=True):
            sources = served.history.view(spec).sources
            known = [ends[spec["source"]["topic"]].get(source, 0) for source in sources]
            beyond |= unknown | (offsets > np.array(known, np.int64)).any(axis=1)
        return beyond

    def audit(self) -> AuditReport:
        """Recompute each vector at its V and t."""
        served = self._served
        found = audit(served.only(~self._beyond))
        others = self._vectors.filter(pl.col("service") != self._model.features.version).get_column("service")
        return AuditReport(
            model=self._model.name,
            service=self._model.features.version,
            checked=found.checked,
            mismatched=found.different,
            out_of_range=found.out_of_range,
            not_logged=int(self._beyond.sum()),
            other_services={str(name): count for name, count in sorted(others.value_counts().iter_rows())},
            features={name: _counts(found, name) for name in self._model.features.columns()},
            gaps=served.history.gaps(),
            examples=[dict(example) for example in found.examples],
        )

    def skew(self) -> SkewReport:
        """Recompute each vector at its t from what was available then."""
        served = self._served.only(~self._beyond)
        found = skew(served)
        return SkewReport(
            model=self._model.name,
            service=self._model.features.version,
            checked=found.checked,
            equal=found.checked - found.different,
            features={
                name: 1 - found.by_column.get(name, 0) / max(found.checked, 1)
                for name in self._model.features.columns()
            },
            lag_records=lag_records(served),
            examples=[dict(example) for example in found.examples],
        )


def _counts(found: Comparison, name: str) -> Counts:
    missing = found.missing.get(name, 0)
    differing = found.by_column.get(name, 0)
    return Counts(found.checked - differing, differing - missing, missing)
