"""The versions of a model: what the model events say of each, together with the manifest of its training run."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from headrace.base.times import utc_datetime
from headrace.errors import ArtifactError, TerminalError
from headrace.models import manifest as manifests
from headrace.models.model_events import ModelEvent, Published

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.models.manifest import Manifest
    from headrace.models.model_state import ModelState
    from headrace.models.publication_signing import PublicationSigning


TIMEOUT = timedelta(seconds=10)
"""The longest time that a command waits for Kafka."""


def read_model_states(servers: str, topic: str, signing: PublicationSigning) -> dict[str, ModelState]:
    """Read all model events of a topic and return the state of each model by name. Raises BusUnavailableError."""
    from headrace.models.kafka_model_event_log import KafkaModelEventLog
    from headrace.models.model_state import fold_all

    if not _has_events(servers, topic):
        return {}
    with closing(KafkaModelEventLog(servers, topic, signing=signing, timeout=TIMEOUT)) as log:
        return fold_all(entry.event for entry in log.read() if entry.event is not None)


def _has_events(servers: str, topic: str) -> bool:
    """Return whether the topic of model events exists. A reader does not create it."""
    from confluent_kafka import KafkaException

    from headrace.bus.topics import admin
    from headrace.errors import BusUnavailableError

    try:
        return topic in admin(servers).list_topics(timeout=TIMEOUT.total_seconds()).topics
    except KafkaException as error:
        raise BusUnavailableError(f"could not list the topics of {servers}: {error}; is the broker up?") from error


def published_versions(state: ModelState) -> list[int]:
    """Return the number of every version that was published, also of those whose publication was void."""
    events = [*state.history, *(void.event for void in state.void)]
    return sorted({event.data.version for event in events if isinstance(event.data, Published)})


def find_publication(state: ModelState, version: int) -> tuple[ModelEvent, Published]:
    """Return the event that published a version: the one in force, else the last void one.

    Raises TerminalError, which lists the published versions, if there is none.
    """
    void = [each.event for each in reversed(state.void) if each.event.data.version == version]
    found = [state.published(version), *void]
    for event in found:
        if event is not None and isinstance(event.data, Published):
            return event, event.data
    known = ", ".join(str(each) for each in published_versions(state)) or "none"
    raise TerminalError(f"there is no version {version} in the model's events; published versions: {known}")


def summarize_version(state: ModelState, version: int) -> dict[str, Any]:
    """Return one row about a version, made from its events alone."""
    event, data = find_publication(state, version)
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


def describe_version(state: ModelState, version: int, manifest: Manifest) -> dict[str, Any]:
    """Return everything that is known about one version, as plain JSON.

    ``manifest`` is the one that the publication names: see :func:`fetch_manifest`. ``status`` is live, published (in
    force, but not live now), retired, or void (never in force). ``void`` lists the publications of this version that
    do not count, each with its reason.
    """
    event, data = find_publication(state, version)
    return {
        "model": event.model,
        "version": version,
        "status": _status(state, version),
        "published_at": _time(event.at_us),
        "event": event.id,
        "expects": data.expects,
        "void": _void_publications(state, version),
        "cause": {"rule": data.cause.rule, "reason": data.cause.reason, "decision": data.cause.decision},
        "request_id": data.request_id,
        "data": _training_data(manifest),
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


def _void_publications(state: ModelState, version: int) -> list[dict[str, str]]:
    return [
        {"event": void.event.id, "reason": void.reason}
        for void in state.void
        if isinstance(void.event.data, Published) and void.event.data.version == version
    ]


def _training_data(manifest: Manifest) -> dict[str, Any]:
    return {
        "topics": [
            {"topic": pin.topic, "topic_id": pin.topic_id, "offsets": dict(pin.offsets)} for pin in manifest.streams
        ],
        "rows": manifest.rows,
        "content_hash": manifest.content_hash,
        "trained_from": _time(manifest.trained_from_us),
        "trained_to": _time(manifest.trained_to_us),
        "excluded": [
            {"from": _time(span.from_us), "to": _time(span.to_us), "reason": span.reason} for span in manifest.excluded
        ],
    }


def fetch_manifest(published: Published, places: ArtifactPlaces) -> Manifest:
    """Fetch the manifest that a publication names.

    Raises ArtifactError if it is in none of the places, or if its hash is not the one in the event, and TransientError
    if it cannot be fetched.
    """
    ref = published.manifest
    found = manifests.decode(places.read(ref.uri))
    hashed = manifests.hash_of(found)
    if hashed != ref.hash:
        message = (
            f"the manifest {ref.uri!r} has the hash {hashed}, its event says {ref.hash}: it was changed after version "
            f"{published.version} was published; restore the file, or read it knowing that"
        )
        raise ArtifactError(message)
    return found


def choose_model(states: Mapping[str, ModelState], model: str | None) -> str:
    """Return the name of the chosen model. Without a choice it is the only model that has events.

    Raises TerminalError, which lists the models, if the choice is unknown or is needed.
    """
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
