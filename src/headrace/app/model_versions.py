"""The versions of a model: what the model events say of each, together with the manifest of its training run."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.base.times import SECOND, utc_datetime
from headrace.errors import ArtifactError, TerminalError
from headrace.models import manifest as manifests
from headrace.models.intervention import told
from headrace.models.live_at import live_at, loaded_at
from headrace.models.model_events import ModelEvent, Published, Retired, RolledBack

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from headrace.app.project.settings import Settings
    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.models.kafka_model_event_log import KafkaModelEventLog
    from headrace.models.live_at import LoadedAt
    from headrace.models.manifest import Manifest
    from headrace.models.model_events import Acknowledgement
    from headrace.models.model_state import ModelState
    from headrace.models.publication_signing import PublicationSigning


TIMEOUT = timedelta(seconds=10)
"""The longest time that a command waits for Kafka."""


def read_model_states(servers: str, topic: str, signing: PublicationSigning) -> dict[str, ModelState]:
    """Read all model events of a topic and return the state of each model by name. Raises BusUnavailableError."""
    from headrace.models.model_state import fold_all

    return fold_all(read_model_events(servers, topic, signing))


def read_model_events(servers: str, topic: str, signing: PublicationSigning) -> list[ModelEvent]:
    """Read all model events of a topic, in the order of the log. Raises BusUnavailableError."""
    from headrace.bus.topics import has_topic
    from headrace.models.kafka_model_event_log import KafkaModelEventLog

    if not has_topic(servers, topic):
        return []
    with closing(KafkaModelEventLog(servers, topic, signing=signing, timeout=TIMEOUT)) as log:
        return [entry.event for entry in log.read() if entry.event is not None]


def check_signing(log: KafkaModelEventLog, model: str, settings: Settings) -> None:
    """Raise SettingsError if the events of a model are signed, and this process has no key: its event would be void."""
    from headrace.errors import SettingsError

    if settings.publication_keys:
        return
    log.read()
    if model.encode() in log.signed_keys:
        message = (
            f"the events of model {model!r} on topic {settings.topics.models!r} are signed, and this process has no "
            "publication_keys, so every other process would ignore its event; set HEADRACE_PUBLICATION_KEYS"
        )
        raise SettingsError(message)


def read_acknowledgements(servers: str, topic: str, model: str) -> list[Acknowledgement]:
    """Read what applications answered to the events of a model. Raises BusUnavailableError."""
    from headrace.bus.tail import TopicTail
    from headrace.bus.topics import has_topic
    from headrace.bus.unreadable_records import readable
    from headrace.models.model_events import decode_acknowledgement

    if not has_topic(servers, topic):
        return []
    with closing(TopicTail(servers, [topic], from_beginning=True)) as tail:
        found = readable(tail.drain(), lambda record: decode_acknowledgement(record.value()))
        return [each for each in found if each.model == model]


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
        "published_at": _second(event.at_us),
        "trained_to": _time(data.trained_to_us),
        "cause": data.cause.rule,
        "gate": data.gate.get("verdict"),
        "metrics": dict(data.metrics),
        "run": data.request_id,
        "registry_run": data.run,
        "pinned": told(state.pin) if state.pin is not None and version == state.version else None,
    }


def describe_version(state: ModelState, version: int, manifest: Manifest) -> dict[str, Any]:
    """Return everything that is known about one version, as plain JSON.

    ``manifest`` is the one that the publication names: see :func:`fetch_manifest`. ``status`` is live, published (in
    force, but not live now), waiting (for its approval), superseded (a later version came before its approval),
    retired, or void (never in force). ``void`` lists the publications of this version that do not count, each with its
    reason, and ``interventions`` what persons decided about it.
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
        "interventions": [
            told(each)
            for each in state.history
            if each.data.version == version and not isinstance(each.data, Published)
        ],
        "cause": {"rule": data.cause.rule, "reason": data.cause.reason, "decision": data.cause.decision},
        "run": data.request_id,
        "registry_run": data.run,
        "data": _training_data(manifest),
        "code": manifest.code,
        "params": dict(manifest.params),
        "seeds": dict(manifest.seeds),
        "libraries": dict(manifest.libraries),
        "service": {"name": data.service.name, "hash": data.service.hash},
        "spec_hashes": dict(manifest.spec_hashes),
        "gate": dict(data.gate),
        "metrics": dict(data.metrics),
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


def describe_live_at(
    events: Iterable[ModelEvent], acknowledgements: Iterable[Acknowledgement], t_us: int
) -> dict[str, Any]:
    """Return which version of a model was live at a time, and what each application had loaded, as plain JSON."""
    found = live_at(events, t_us)
    live, waiting = found.state.live, found.state.waiting
    return {
        "at": _time(t_us),
        "live": {
            "version": found.state.version,
            "since": None if found.since_us is None else _second(found.since_us),
            "event": None if live is None else live.id,
            "told": "no version was live" if live is None else told(live),
            "pinned": found.state.pinned,
        },
        "waiting": None if waiting is None else waiting.data.version,
        "waiting_since": None if waiting is None else _second(waiting.at_us),
        "applications": [
            {
                "where": each.application,
                "version": each.version,
                "since": None if each.since_us is None else _second(each.since_us),
                "problem": _problem(each, found.state.version),
            }
            for each in loaded_at(acknowledgements, t_us)
        ],
    }


def _problem(each: LoadedAt, live: int | None) -> str | None:
    """Return why an application does not answer with the live version."""
    if each.refused is not None:
        return f"version {each.refused.version}: {each.refused.reason}"
    return None if each.version == live else f"it has not said that it uses version {live}"


def check_in_force(state: ModelState, event: ModelEvent) -> None:
    """Raise TerminalError if an event that was appended does not count, because another one came before or after it."""
    for void in state.void:
        if void.event.id == event.id:
            raise TerminalError(f"nothing has changed, as another event came first: {void.reason}")
    if state.live is not None and state.live_id != event.id and not isinstance(event.data, Retired):
        message = f"{told(event)}, but another event came after it, which is in force now: {told(state.live)}"
        raise TerminalError(message)


def describe_intervention(state: ModelState, event: ModelEvent) -> dict[str, Any]:
    """Return what a person decided, and what is live with it, as plain JSON."""
    return {
        "model": event.model,
        "event": event.id,
        "kind": event.kind,
        "at": _time(event.at_us),
        **msgspec.to_builtins(event.data),
        "live": state.version,
        "pinned": state.pinned,
    }


def tell_intervention(state: ModelState, event: ModelEvent, before: int | None = None) -> str:
    """Return a sentence about the model after a person's decision. ``before`` is the version that was live before."""
    name, version = event.model, event.data.version
    match event.data:
        case RolledBack(pin=True) if version == before:
            return (
                f"version {version} of {name} was live already, and is pinned now until `headrace models unpin {name}`"
            )
        case RolledBack(pin=True):
            return f"version {version} of {name} is live, and pinned until `headrace models unpin {name}`"
        case RolledBack():
            return f"{name} is not pinned any more: version {version} is live, and may be replaced"
        case Retired():
            return f"version {version} of {name} is retired: it is never live again; version {state.version} is live"
        case _:
            return f"version {version} of {name} is live"


def choose_model(states: Collection[str], model: str) -> str:
    """Return the name of the chosen model. Raises TerminalError, which lists the models, if it has no events."""
    known = ", ".join(sorted(states)) or "none"
    if model not in states:
        raise TerminalError(f"model {model!r} has no events; models that have some: {known}")
    return model


def _status(state: ModelState, version: int) -> str:
    if state.published(version) is None:
        return "void"
    if version == state.version:
        return "live"
    if version in state.retired:
        return "retired"
    if state.waiting is not None and version == state.waiting.data.version:
        return "waiting"
    return "published" if state.approved(version) else "superseded"


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what differs between two versions, as :func:`describe_version` tells of them, one row for each value.

    Names that every version has for itself are left out: of events, requests, runs and files.
    """
    ours, theirs = dict(_values(_comparable(one))), dict(_values(_comparable(other)))
    names = [*ours, *(name for name in theirs if name not in ours)]
    return [
        {"what": name, "from": ours.get(name), "to": theirs.get(name)}
        for name in names
        if ours.get(name) != theirs.get(name)
    ]


_OF_ITS_OWN = frozenset({
    "version", "event", "expects", "void", "interventions", "run", "registry_run", "artifact", "manifest",
})  # fmt: skip


def _comparable(told_: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in told_.items() if name not in _OF_ITS_OWN}
    pins = {pin["topic"]: {"topic_id": pin["topic_id"], **pin["offsets"]} for pin in told_["data"]["topics"]}
    gate = {name: value for name, value in told_["gate"].items() if name != "metrics"}  # they are in `metrics`, flat
    return found | {"data": {**told_["data"], "topics": pins}, "gate": gate}


def _values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value with its path: ("data.topics.orders.0", 120)."""
    if not isinstance(value, dict):
        yield path, value
        return
    for key, each in value.items():
        yield from _values(each, f"{path}.{key}" if path else str(key))


def _second(micros: int) -> str:
    return _time(micros - micros % SECOND)


def _time(micros: int) -> str:
    return utc_datetime(micros).isoformat().replace("+00:00", "Z")
