"""The registry keeps every training run, passed or not, and numbers the versions. The port and its double."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from headrace.errors import UnknownVersionError
from headrace.models import artifact
from headrace.models.manifest import encode, hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from headrace.models.artifact import Artifact
    from headrace.models.manifest import Manifest

MODEL_FILE = "model.skops"
CHALLENGER_FILE = "challenger.skops"
MANIFEST_FILE = "manifest.json"
GATE_FILE = "gate.json"
LOG_FILE = "run.log"


@dataclass(frozen=True)
class RunRecord:
    """A training run, as its runner records it. ``model`` is the refit to publish; it is there only if the gate passed.

    ``challenger`` is the fit that was gated, ``log`` what the fits printed. Times are microseconds UTC on the injected
    clock.
    """

    name: str
    request_id: str
    manifest: Manifest
    gate: Mapping[str, Any]
    started_us: int
    finished_us: int
    challenger: Artifact | None = None
    model: Artifact | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    log: bytes | None = None

    def gate_json(self) -> bytes:
        """The gate's report as it is kept. Raises ValueError for a number that is NaN or infinite."""
        return json.dumps(self.gate, indent=2, sort_keys=True, allow_nan=False).encode()


@dataclass(frozen=True)
class FailedRun:
    """A training run that failed, as its runner records it. It has no version, and may be done again."""

    name: str
    request_id: str
    reason: str
    at_us: int
    params: Mapping[str, Any] = field(default_factory=dict)
    log: bytes | None = None


@dataclass(frozen=True)
class Registration:
    """The place of a run in the registry. ``version`` and ``artifact_uri`` are None for a run that did not pass."""

    name: str
    request_id: str
    run_id: str
    version: int | None
    artifact_uri: str | None
    manifest_uri: str
    manifest_hash: str
    gate_uri: str


class Registry(Protocol):
    """Runs under their request id; versions 1, 2, … of those that passed.

    Every method raises RegistryUnavailableError if the registry, or the place of its artifacts, does not answer.
    """

    def record(self, run: RunRecord) -> Registration:
        """Keep a run and, if it passed, give it a version.

        A request id that is known already changes nothing: the registration of the first run is returned. So a request
        that was refused has no version, whatever a second run of it is recorded with.
        """
        ...

    def record_failure(self, run: FailedRun) -> None:
        """Keep a run that failed. It is not found by its request id, so the same request may be recorded later."""
        ...

    def read(self, uri: str) -> bytes:
        """Return the bytes of an artifact of this registry."""
        ...

    def find(self, name: str, request_id: str) -> Registration | None:
        """Return the complete run with that request id, or None."""
        ...

    def version(self, name: str, version: int) -> Registration:
        """Return a version's registration. Raises UnknownVersionError."""
        ...

    def gated_fit(self, name: str, version: int) -> bytes | None:
        """Return the fit that was gated for a version, or None if the registry does not have it, or not any more.

        Raises UnknownVersionError.
        """
        ...

    def promote(self, name: str, version: int) -> None:
        """Name a version the champion. Raises UnknownVersionError."""
        ...

    def champion(self, name: str) -> int | None:
        """Return the version that is the champion, or None."""
        ...


class MemoryRegistry:
    """A :class:`Registry` in this process. Artifacts and manifests are files in ``folder``, so that their URIs work.

    >>> from pathlib import Path
    >>> from headrace.testing import MemoryRegistry
    >>> registry = MemoryRegistry(Path("/tmp"))
    >>> registry.find("delay", "request-1"), registry.champion("delay")
    (None, None)
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: dict[tuple[str, str], Registration] = {}
        self._champions: dict[str, int] = {}
        self.failures: list[FailedRun] = []

    def record(self, run: RunRecord) -> Registration:
        """Keep the run."""
        known = self.find(run.name, run.request_id)
        if known is not None:
            return known
        folder = self._folder / run.name / run.request_id
        registration = Registration(
            name=run.name,
            request_id=run.request_id,
            run_id=f"run-{len(self._runs) + 1}",
            version=None,
            artifact_uri=None,
            manifest_uri=(folder / MANIFEST_FILE).resolve().as_uri(),
            manifest_hash=hash_of(run.manifest),
            gate_uri=(folder / GATE_FILE).resolve().as_uri(),
        )
        if run.model is not None:
            uri = artifact.store(run.model, folder / MODEL_FILE)
            registration = replace(registration, version=self._next_version(run.name), artifact_uri=uri)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST_FILE).write_bytes(encode(run.manifest))
        (folder / GATE_FILE).write_bytes(run.gate_json())
        if run.challenger is not None:
            (folder / CHALLENGER_FILE).write_bytes(run.challenger.data)
        self._runs[run.name, run.request_id] = registration
        return registration

    def record_failure(self, run: FailedRun) -> None:
        """Remember the run."""
        self.failures.append(run)

    def read(self, uri: str) -> bytes:
        """Read the file."""
        return artifact.fetch(uri)

    def find(self, name: str, request_id: str) -> Registration | None:
        """Look the run up."""
        return self._runs.get((name, request_id))

    def version(self, name: str, version: int) -> Registration:
        """Look the version up."""
        for run in self._runs.values():
            if run.name == name and run.version == version:
                return run
        raise UnknownVersionError(name, version)

    def gated_fit(self, name: str, version: int) -> bytes | None:
        """Read the file, if it is there."""
        path = self._folder / name / self.version(name, version).request_id / CHALLENGER_FILE
        return path.read_bytes() if path.exists() else None

    def promote(self, name: str, version: int) -> None:
        """Remember the champion."""
        self.version(name, version)
        self._champions[name] = version

    def champion(self, name: str) -> int | None:
        """The champion."""
        return self._champions.get(name)

    def _next_version(self, name: str) -> int:
        return 1 + sum(run.name == name and run.version is not None for run in self._runs.values())
