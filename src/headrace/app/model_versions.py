"""Where a model's versions came from: their events, told with the manifest of what made them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.base.times import utc_datetime
from headrace.errors import ArtifactError, TerminalError
from headrace.models import artifact
from headrace.models import manifest as manifests
from headrace.models.model_events import ModelEvent, Published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.models.manifest import Manifest
    from headrace.models.model_state import ModelState


def versions(state: ModelState) -> list[int]:
    """Every version that was published, also in vain."""
    events = [*state.history, *(void.event for void in state.void)]
    return sorted({event.data.version for event in events if isinstance(event.data, Published)})


def publication(state: ModelState, version: int) -> tuple[ModelEvent, Published]:
    """The publication of a version: the one in force, else the last void one. TerminalError names those there are."""
    void = [each.event for each in reversed(state.void) if each.event.data.version == version]
    found = [state.published(version), *void]
    for event in found:
        if event is not None and isinstance(event.data, Published):
            return event, event.data
    known = ", ".join(str(each) for each in versions(state)) or "none"
    raise TerminalError(f"there is no version {version} in the model's events; published versions: {known}")


def summarize(state: ModelState, version: int) -> dict[str, Any]:
    """One version in a line, from its events alone."""
    event, data = publication(state, version)
    return {
        "model": event.model,
        "version": version,
        "status": _status(state, version),
        "published_at": _time(event.at_us),
        "trained_to": _time(data.trained_to_us),
        "cause": data.cause.rule,
        "gate": data.gate.get("verdict"),
        "metrics": dict(data.metrics),
        "run": data.run,
    }


def describe(state: ModelState, version: int, manifest: Manifest) -> dict[str, Any]:
    """All that is known of one version, as plain JSON; ``manifest`` is the one that its publication names.

    ``status`` is live, published (in force, not live now), retired, or void (never in force); ``void`` says why
    publications of this version count for nothing.
    """
    event, data = publication(state, version)
    return {
        "model": event.model,
        "version": version,
        "status": _status(state, version),
        "published_at": _time(event.at_us),
        "event": event.id,
        "expects": data.expects,
        "void": [
            {"event": void.event.id, "reason": void.reason}
            for void in state.void
            if isinstance(void.event.data, Published) and void.event.data.version == version
        ],
        "cause": {"rule": data.cause.rule, "reason": data.cause.reason, "decision": data.cause.decision},
        "request_id": data.request_id,
        "data": {
            "topics": [
                {"topic": pin.topic, "topic_id": pin.topic_id, "offsets": dict(pin.offsets)} for pin in manifest.streams
            ],
            "rows": manifest.rows,
            "content_hash": manifest.content_hash,
            "trained_from": _time(manifest.trained_from_us),
            "trained_to": _time(manifest.trained_to_us),
            "excluded": [
                {"from": _time(span.from_us), "to": _time(span.to_us), "reason": span.reason}
                for span in manifest.excluded
            ],
        },
        "code": manifest.code,
        "params": dict(manifest.params),
        "seeds": dict(manifest.seeds),
        "libraries": dict(manifest.libraries),
        "service": {"name": data.service.name, "hash": data.service.hash},
        "spec_hashes": dict(manifest.spec_hashes),
        "gate": dict(data.gate),
        "metrics": dict(data.metrics),
        "run": data.run,
        "artifact": {
            "uri": data.artifact.uri,
            "digest": data.artifact.digest,
            "content_hash": data.artifact.content_hash,
        },
        "manifest": {"uri": data.manifest.uri, "hash": data.manifest.hash},
    }


def manifest_of(published: Published) -> Manifest:
    """The manifest that a publication names. ArtifactError if it is another one, TransientError if it is not there."""
    ref = published.manifest
    found = manifests.decode(artifact.fetch(ref.uri))
    hashed = manifests.hash_of(found)
    if hashed != ref.hash:
        message = (
            f"the manifest {ref.uri!r} has the hash {hashed}, its event says {ref.hash}: it was changed after version "
            f"{published.version} was published; restore the file, or read it knowing that"
        )
        raise ArtifactError(message)
    return found


def choose(states: Mapping[str, ModelState], model: str | None) -> str:
    """The model that was asked for, or the only one there is. TerminalError names those there are."""
    known = ", ".join(sorted(states)) or "none"
    if model is None and len(states) == 1:
        return next(iter(states))
    if model is None:
        raise TerminalError(f"which model? name one with --model; models that have events: {known}")
    if model not in states:
        raise TerminalError(f"model {model!r} has no events; models that have some: {known}")
    return model


def _status(state: ModelState, version: int) -> str:
    if state.published(version) is None:
        return "void"
    if version == state.version:
        return "live"
    return "retired" if version in state.retired else "published"


def _time(micros: int) -> str:
    return utc_datetime(micros).isoformat().replace("+00:00", "Z")
