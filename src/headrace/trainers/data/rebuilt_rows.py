"""The rows of a training set that was made before, from its manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.bus.control_topics import DEFAULT_NAMESPACE
from headrace.errors import TerminalError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.service import FeatureService
from headrace.features.offline.content_hash import content_hash
from headrace.trainers.data.manifest_parts import pinned_ends
from headrace.trainers.data.request_rows import RequestRows
from headrace.trainers.data.spine_rows import SpineRows

if TYPE_CHECKING:
    from headrace.features.offline.spine import Spine
    from headrace.models.training_manifest import TrainingManifest
    from headrace.trainers.definitions import Model


def rows_of_manifest(
    manifest: TrainingManifest,
    definition: Model | FeatureService,
    event_log: str,
    spine: Spine | None = None,
    *,
    namespace: str = DEFAULT_NAMESPACE,
) -> RequestRows | SpineRows:
    """The rows that a manifest describes, from the rows of the event log that it pins.

    Raises TerminalError if the definitions have changed since, or if the spine is missing or is another one.
    """
    model = None if isinstance(definition, FeatureService) else definition
    features = definition if isinstance(definition, FeatureService) else definition.features
    if features.version != manifest.service:
        changed = [view.name for view in features.views if view.version != manifest.spec_hashes.get(view.name)]
        message = (
            f"{manifest.of} {manifest.name!r} has changed since the manifest was written, in its views "
            f"{changed or 'or their order, or in its on-demand features'}: "
            f"use the code that defines service {manifest.service}"
        )
        raise TerminalError(message)
    log = EventLog(event_log, ends=pinned_ends(manifest.streams), namespace=namespace)
    if manifest.rows_from == "requests" and model is not None:
        return RequestRows(model, log, manifest.as_of_us, manifest.excluded)
    return SpineRows(features, log, _checked_spine(spine, manifest), manifest.time, manifest.as_of_us, model)


def _checked_spine(spine: Spine | None, manifest: TrainingManifest) -> Spine:
    if spine is None:
        message = (
            f"the training set of {manifest.name!r} was made for a spine of {manifest.rows:,} rows: pass that spine"
        )
        raise TerminalError(message)
    own = spine.select(manifest.spine_columns)
    found = content_hash(own.pieces())
    if found != manifest.spine_hash:
        message = (
            f"this is not the same spine: its hash is {found}; the training set was made for {manifest.spine_hash}"
        )
        raise TerminalError(message)
    return own
