"""Model events for tests: small, valid, and different where a test says so."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.models import artifact
from headrace.models.manifest import Manifest, StreamPin, TimeSpan
from headrace.models.model_events import (
    ArtifactRef,
    Cause,
    ManifestRef,
    ModelEvent,
    Promoted,
    Published,
    Retired,
    RolledBack,
    ServiceRef,
    ViewRef,
)

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = ServiceRef(
    name="delay",
    hash="5e1f",
    views=[ViewRef(name="airport", spec_hash="a1b2", keys=["origin"])],
    columns=["airport__mean_delay_1h", "airport__mean_delay_6h"],
    request_features=["hour", "distance"],
    key="flight_id",
    at="requested_at",
)
PUBLISHED = Published(
    version=1,
    artifact=ArtifactRef(uri="file:///models/1.skops", digest="sha256:00", content_hash="sha256:11"),
    service=SERVICE,
    manifest=ManifestRef(uri="file:///models/1.json", hash="sha256:22"),
    metrics={"auc": 0.74},
    gate={"verdict": "passed", "gain_low": 0.01},
    cause=Cause(rule="first", reason="20,000 of 20,000 matured labels for the first version", decision="d-1"),
    request_id="delay-1",
    trained_to_us=1_360_000_000_000_000,
    expects=None,
    run="run-1",
)
MANIFEST = Manifest(
    model="delay",
    request_id="delay-1",
    streams=[StreamPin(topic="flights.departed", topic_id="AAECAw", offsets={"0": 120, "1": 98})],
    rows=20_000,
    content_hash="sha256:33",
    row_order=["requested_at", "flight_id"],
    service="delay",
    spec_hashes={"airport": "a1b2"},
    feature_columns=["airport__mean_delay_1h"],
    request_features=["hour"],
    label={"topic": "flights.arrived", "value": ["gt", ["col", "delay_minutes"], 15]},
    seeds={"fit": 7},
    libraries={"scikit-learn": "1.9.1"},
    code="git:0123abc",
    trained_from_us=1_357_000_000_000_000,
    trained_to_us=1_360_000_000_000_000,
    excluded=[TimeSpan(from_us=1, to_us=2, reason="sensor broken")],
    params={"max_iter": 200},
)


def published(
    id_: str, version: int, *, expects: str | None, request_id: str | None = None, **changes: Any
) -> ModelEvent:
    data = msgspec.structs.replace(
        PUBLISHED, version=version, expects=expects, request_id=request_id or f"request-{id_}", **changes
    )
    return ModelEvent(id=id_, model="delay", at_us=1_360_000_000_000_000, data=data)


def rolled_back(id_: str, version: int, *, pin: bool = True, **more: str) -> ModelEvent:
    data = msgspec.structs.replace(RolledBack(version=version, reason="worse", pin=pin), **more)
    return ModelEvent(id=id_, model="delay", at_us=2, data=data)


def promoted(id_: str, version: int, **more: str) -> ModelEvent:
    data = msgspec.structs.replace(Promoted(version=version, reason="better"), **more)
    return ModelEvent(id=id_, model="delay", at_us=4, data=data)


def retired(id_: str, version: int, **more: str) -> ModelEvent:
    data = msgspec.structs.replace(Retired(version=version, reason="old"), **more)
    return ModelEvent(id=id_, model="delay", at_us=3, data=data)


def version_one(model: str, estimator: Any, service: ServiceRef, folder: Path) -> ModelEvent:
    """The publication of version 1 by hand, with its artifact in the folder."""
    stored = artifact.dump(estimator)
    uri = artifact.store(stored, folder / "model.skops")
    data = Published(
        version=1,
        artifact=ArtifactRef(uri=uri, digest=stored.digest, content_hash=stored.content_hash),
        service=service,
        manifest=ManifestRef(uri="file:///none", hash="sha256:0"),
        metrics={},
        gate={},
        cause=Cause(rule="manual", reason="a test"),
        request_id=uuid.uuid4().hex,
        trained_to_us=0,
        expects=None,
    )
    return ModelEvent(id=uuid.uuid4().hex, model=model, at_us=time.time_ns() // 1_000, data=data)
