"""The manifest and the model event of a version: data, definitions, code, seeds, libraries, gate."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET

from headrace.errors import TerminalError
from headrace.features.definitions.spec import to_document
from headrace.models import artifact
from headrace.models.manifest import Manifest
from headrace.models.model_events import (
    ArtifactRef,
    Cause,
    ManifestRef,
    ModelEvent,
    OwnEventRef,
    Published,
    ServiceRef,
    ViewRef,
    format_of,
)
from headrace.models.prediction_task import BINARY
from headrace.trainers.data.manifest_parts import libraries, stream_pins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.features.definitions.feature_spec import OwnEventRule
    from headrace.models.manifest import TimeSpan
    from headrace.models.model_state import ModelState
    from headrace.models.registry import Registration
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import LearnFrom, Model
    from headrace.trainers.runs.fit_code import FitCode
    from headrace.trainers.runs.gate import GateReport
    from headrace.trainers.runs.messages import RetrainRequest


def run_seed(request_id: str, seed: int) -> int:
    """The seed of a run's random choices. It is the same whenever the same request is taken again."""
    return zlib.crc32(request_id.encode()) ^ short_seed(seed)


def short_seed(seed: int) -> int:
    """Return a seed that fits into 32 bits, which is all that numpy and scikit-learn take. A short one stays itself."""
    short = 0
    while seed:
        short, seed = short ^ seed & 0xFFFF_FFFF, seed >> 32
    return short


@dataclass(frozen=True)
class RunInputs:
    """The decisions about a run before its data was read."""

    model: Model
    request_id: str
    learn_from: LearnFrom
    excluded: Sequence[TimeSpan]
    seed: int


def make_manifest(made: RunInputs, data: Examples, fitted_with: FitCode) -> Manifest:
    """Return the manifest of a run on ``data``."""
    model, code = made.model, fitted_with.code
    views = model.features.views
    return Manifest(
        model=model.name,
        request_id=made.request_id,
        streams=stream_pins(data.positions),
        rows=len(data),
        content_hash=data.content_hash(),
        row_order=["available_at", "partition", "offset"],
        service=model.features.version,
        spec_hashes={view.name: view.version for view in views},
        feature_columns=model.features.columns(),
        request_features=list(model.request_features),
        label=to_document(model.label.spec),
        seeds={"run": run_seed(made.request_id, made.seed), "gate": made.seed},
        libraries=fitted_with.packages | libraries(),
        code=code.function,
        code_modules=code.modules or UNSET,
        code_bound=code.bound or UNSET,
        git=fitted_with.git or UNSET,
        trained_from_us=int(data.requested_us.min()),
        trained_to_us=int(data.requested_us.max()),
        excluded=list(made.excluded),
        params={} if made.learn_from == "events" else {"source": made.learn_from, "never_served": data.never_served},
    )


def publication(
    model: Model,
    request: RetrainRequest,
    state: ModelState,
    registration: Registration,
    report: GateReport,
    *,
    stored: bytes,
    trained_to_us: int,
    gated_to_us: int,
    at_us: int,
) -> ModelEvent:
    """Return the event that publishes a registered version, judged against ``state``. ``stored`` is its artifact.

    If earlier publications of the same request were void, the new one gets another event id. Raises TerminalError for a
    run without a version.
    """
    if registration.version is None or registration.artifact_uri is None:
        message = f"run {request.request_id} passed its gate but has no version in the registry"
        raise TerminalError(message)
    service, waits, task = service_ref(model), model.gate.approve == "manual", model.label.predicts
    published = Published(
        format=format_of(service, needs_approval=waits, task=task, has_lists=_has_lists(model)),
        version=registration.version,
        artifact=_stored(registration.artifact_uri, stored),
        service=service,
        manifest=ManifestRef(uri=registration.manifest_uri, hash=registration.manifest_hash),
        metrics=metrics(report),
        gate=msgspec.to_builtins(report),
        cause=Cause(rule=request.rule, reason=request.reason),
        request_id=request.request_id,
        trained_to_us=trained_to_us,
        expects=state.live_id,
        run=registration.run_id,
        lifts=UNSET if state.pin is None else request.lifts,
        approval="wanted" if waits else UNSET,
        task=UNSET if task == BINARY else task,
        gated_to_us=gated_to_us,
    )
    return ModelEvent(id=_event_id(published, state), model=model.name, at_us=at_us, data=published)


def _event_id(published: Published, state: ModelState) -> str:
    mine = (void.event.data for void in state.void if isinstance(void.event.data, Published))
    earlier = sum(data.request_id == published.request_id for data in mine)
    return f"{published.request_id}-v{published.version}" + (f"-{earlier + 1}" if earlier else "")


def service_ref(model: Model) -> ServiceRef:
    """Return the part of a model event that describes the features. With it applications need no definitions."""
    return ServiceRef(
        name=model.features.name,
        hash=model.features.version,
        views=[
            ViewRef(name=view.name, spec_hash=view.version, keys=list(view.entity.join_keys))
            for view in model.features.views
        ],
        columns=model.features.columns(),
        request_features=list(model.request_features),
        key=model.request_key,
        at=model.requested_at,
        on_demand=to_document(model.features.spec).get("on_demand", {}),
        own_event=None if model.own_event is None else own_event_ref(model, model.own_event),
        categories=list(model.categories),
    )


def _has_lists(model: Model) -> bool:
    return any(kind.startswith(("list(", "vector(")) for kind in model.input_kinds.values())


def own_event_ref(model: Model, rule: OwnEventRule) -> OwnEventRef:
    """Return the rule for a request's own event, with the views that it concerns."""
    return OwnEventRef(rule=rule, topic=model.requests.topic, views=[view.name for view in model.own_views])


_LONGEST_NAME = 200  # of a metric; MLflow takes 250 characters


def metrics(report: GateReport) -> dict[str, float]:
    """Return the gate's numbers under names that MLflow takes."""
    found: dict[str, float] = {}
    for name, compared in report.metrics.items():
        slug = re.sub(r"[^\w.-]+", "_", name.replace("'", "")).strip("_")[:_LONGEST_NAME]
        found |= {
            f"{slug}_challenger": compared.challenger,
            f"{slug}_champion": compared.champion,
            f"{slug}_gain_low": compared.gain_low,
        }
    return found


def record_tags(request: RetrainRequest, report: GateReport, ran_on: FitCode) -> dict[str, str]:
    """Return the tags of a run in the registry: by them runs are found in MLflow."""
    tags = {"headrace.verdict": report.verdict, "headrace.reason": report.reason, "headrace.cause": request.reason}
    if ran_on.git is not None:
        tags["mlflow.source.git.commit"] = ran_on.git.commit
        tags["headrace.git_dirty"] = "false" if ran_on.git.diff is None else "true"
    return tags


def _stored(uri: str, data: bytes) -> ArtifactRef:
    """Describe what the registry has. If a run was cut short and done again, it is from the first attempt."""
    return ArtifactRef(uri=uri, digest=artifact.digest(data), content_hash=artifact.content_hash(data))
