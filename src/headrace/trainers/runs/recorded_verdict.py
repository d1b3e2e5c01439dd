"""The verdict that the registry has of a request: a request that did not pass once is not judged a second time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from headrace.models import manifest
from headrace.trainers.runs.gate import GateReport

if TYPE_CHECKING:
    from headrace.models.manifest import Manifest
    from headrace.models.registry import Registry
    from headrace.trainers.triggers.trigger_state import RunOutcome


@dataclass(frozen=True)
class RecordedVerdict:
    """The gate's report of a run that was recorded to its end and did not pass, and the manifest of its data."""

    report: GateReport
    manifest: Manifest

    @property
    def outcome(self) -> RunOutcome:
        """How the run ends."""
        return "refused" if self.report.verdict == "refused" else "postponed"


def recorded_verdict(registry: Registry, model: str, request_id: str) -> RecordedVerdict | None:
    """Return the verdict of a request that did not pass. None: it was not recorded, or it passed.

    Raises RegistryUnavailableError.
    """
    found = registry.find(model, request_id)
    if found is None or found.version is not None:
        return None
    report = msgspec.json.decode(registry.read(found.gate_uri), type=GateReport)
    if report.verdict == "passed":  # its version was deleted since
        return None
    return RecordedVerdict(report, manifest.decode(registry.read(found.manifest_uri)))
