"""The reports of `headrace audit` and `headrace skew` for one model, from the event log alone."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from headrace.event_log.logged_offsets import MissingOffsets
from headrace.trainers.audit.compare import add_comparisons, audit, lag_records, lags, skew
from headrace.trainers.audit.vector_parts import VectorParts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.event_log.readable_log import ReadableLog
    from headrace.trainers.audit.audited_service import AuditedService
    from headrace.trainers.audit.compare import VectorComparison
    from headrace.trainers.definitions import Model


class FeatureCounts(msgspec.Struct, frozen=True):
    """The values of one feature that are equal, that differ, and that only one side has."""

    matched: int
    mismatched: int
    missing: int


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of computing the served vectors of a model again, at their logged V and t.

    ``not_logged`` counts vectors that used records missing from the log; ``other_services`` counts vectors of other
    versions of the service, by the service's hash. Neither are compared here. ``gaps`` are offsets that the log lacks;
    they explain a mismatch after them.
    """

    model: str
    service: str
    checked: int
    mismatched: int
    out_of_range: int
    not_logged: int
    other_services: dict[str, int]
    features: dict[str, FeatureCounts]
    gaps: list[MissingOffsets]
    examples: list[dict[str, Any]]


class SkewReport(msgspec.Struct, frozen=True, kw_only=True):
    """The share of served values that equal a training set's values at the same key and t, in all and by feature.

    ``lag_records`` are quantiles of the number of records by which the served V was behind what was available.
    ``own_event`` is empty for a model without a rule for the own event. For others it has the number of vectors that
    ``counted`` the request's own record, of those that did not (``not_counted``), and of those that were logged without
    its place (``unknown``).
    """

    model: str
    service: str
    checked: int
    equal: int
    features: dict[str, float]
    lag_records: dict[str, float]
    examples: list[dict[str, Any]]
    own_event: dict[str, int] = {}

    @property
    def share(self) -> float:
        """The share of vectors that are equal; 1 if there are no vectors."""
        return self.equal / self.checked if self.checked else 1.0


class Auditor:
    """Compares the served vectors of one model and one service with a snapshot of the event log.

    Vectors served before ``since_us`` are left out. ``service`` is the one that the model defines now, unless another
    version is given. Raises OfflineStoreUnavailableError.
    """

    def __init__(
        self, model: Model, log: ReadableLog, *, since_us: int | None = None, service: AuditedService | None = None
    ) -> None:
        self._model, self._log, self._since_us = model, log, since_us
        self._parts = VectorParts(model, log, since_us, service)

    def of_other_services(self, known: Mapping[str, AuditedService]) -> list[Auditor]:
        """Return an auditor for each other version of the service that has vectors and is ``known`` by its hash."""
        found = [known[version] for version in self.other_services if version in known]
        return [Auditor(self._model, self._log, since_us=self._since_us, service=service) for service in found]

    @property
    def other_services(self) -> dict[str, int]:
        """The number of vectors of each other version of the service, by its hash."""
        return self._parts.services

    def audit(self) -> AuditReport:
        """Compute each vector again at its V and t."""
        found, not_logged = add_comparisons([]), 0
        for part in self._parts:
            found, not_logged = add_comparisons([found, audit(part.served)]), not_logged + part.not_logged
            del part  # before the next one is read
        return AuditReport(
            model=self._model.name,
            service=self._parts.service.version,
            checked=found.checked,
            mismatched=found.different,
            out_of_range=found.out_of_range,
            not_logged=not_logged,
            other_services=self.other_services,
            features={name: _counts(found, name) for name in self._parts.service.columns},
            gaps=[gap for extent in self._parts.extents.values() for gap in extent.gaps()],
            examples=[dict(example) for example in found.examples],
        )

    def skew(self) -> SkewReport:
        """Compute each vector again at its t from what was available then."""
        found, behind, own = add_comparisons([]), [np.zeros(0, np.int64)], Counter[str]()
        for part in self._parts:
            found = add_comparisons([found, skew(part.served)])
            behind.append(lags(part.served))
            own += Counter(part.served.own_events)
            del part
        return SkewReport(
            model=self._model.name,
            service=self._parts.service.version,
            checked=found.checked,
            equal=found.checked - found.different,
            features={
                name: 1 - found.by_column.get(name, 0) / max(found.checked, 1) for name in self._parts.service.columns
            },
            lag_records=lag_records(behind),
            own_event=dict(own),
            examples=[dict(example) for example in found.examples],
        )


def _counts(found: VectorComparison, name: str) -> FeatureCounts:
    missing = found.missing.get(name, 0)
    differing = found.by_column.get(name, 0)
    return FeatureCounts(found.checked - differing, differing - missing, missing)
