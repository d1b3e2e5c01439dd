"""Trains a version again from its manifest, with the same rows and seed, and compares the predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from msgspec import UNSET

from headrace.bus.control_topics import DEFAULT_NAMESPACE
from headrace.errors import TerminalError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.spec import to_document
from headrace.models.artifact_places import NO_PLACES, ArtifactPlaces
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.manifest_parts import libraries, pinned_ends
from headrace.trainers.runs.fit_code import installed_version
from headrace.trainers.runs.fit_task import FitTask, describe_run, predict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from headrace.models.manifest import Manifest
    from headrace.models.model_events import Published
    from headrace.models.prediction_task import PredictionTask
    from headrace.trainers.data.examples import Examples
    from headrace.trainers.definitions import Model
    from headrace.trainers.runs.fit_code import FitCode
    from headrace.trainers.runs.fit_task import FitResult
    from headrace.trainers.runs.fitting import Fits

_ABSENT = "absent"


class Difference(msgspec.Struct, frozen=True):
    """One thing that is different from the manifest."""

    what: str
    then: Any
    now: Any


class Reproduction(msgspec.Struct, frozen=True, kw_only=True):
    """The result of training a version again.

    ``identical``: every prediction for the training set has the same bits as then. Otherwise ``different_rows`` of
    ``rows`` differ, by at most ``largest``. ``differences`` from the manifest explain such predictions.
    """

    model: str
    version: int
    identical: bool
    rows: int
    different_rows: int
    largest: float
    differences: list[Difference]


@dataclass(frozen=True)
class Reproducer:
    """Trains versions again. ``trusted`` are the types that this deployment loads, from ``places``."""

    event_log: str | Path
    fits: Fits
    trusted: Sequence[str] = ()
    places: ArtifactPlaces = NO_PLACES
    namespace: str = DEFAULT_NAMESPACE

    def reproduce(self, model: Model, published: Published, manifest: Manifest, t_us: int) -> Reproduction:
        """Train a published version of ``model`` again. ``t_us`` is the time of its model event.

        Raises TerminalError if the model has another task now, or if the rows are gone or have other columns,
        ArtifactError if the artifact is not the published one, FitError, and OfflineStoreUnavailableError.
        """
        _check_task(model.label.predicts, published)
        log = EventLog(self.event_log, ends=pinned_ends(manifest.streams), namespace=self.namespace)
        learn_from = manifest.params.get("source", "events")
        data = ExampleBuilder(model, log).build(t_us, learn_from, excluded=manifest.excluded)
        _check_columns(data, manifest)
        fitted = self._fit(model, manifest, data)
        again = fitted.scores
        then = predict(self.places.load(published.artifact, self.trusted), data.frame, data.task)
        other = (then.view(np.int64) != again.view(np.int64)).reshape(len(data), -1).any(axis=1)
        return Reproduction(
            model=model.name,
            version=published.version,
            identical=not other.any(),
            rows=len(data),
            different_rows=int(other.sum()),
            largest=float(np.abs(then - again).max(initial=0.0)),
            differences=_differences(model, manifest, data, fitted.ran_on),
        )

    def _fit(self, model: Model, manifest: Manifest, data: Examples) -> FitResult:
        run = describe_run(model.name, manifest.request_id, manifest.seeds["run"], data)
        rows = data.frame, data.label_series()
        task = FitTask(model.train_function, *rows, run, data.frame, self.trusted, task=data.task)
        return self.fits.fit(task)


def _check_task(now: PredictionTask, published: Published) -> None:
    then = published.predicts
    if then != now:
        message = (
            f"version {published.version} predicts {then.name} {list(then.outputs)}, and the model's label is now "
            f"{now.name} {list(now.outputs)}: check out the definition of that time"
        )
        raise TerminalError(message)


def _check_columns(data: Examples, manifest: Manifest) -> None:
    wanted, found = [*manifest.feature_columns, *manifest.request_features], list(data.frame.columns)
    if not len(data):
        message = (
            f"none of the {manifest.rows:,} rows is in the event log: is it the one that the version was made from?"
        )
        raise TerminalError(message)
    if found != wanted:
        message = f"the model has the columns {found} now; the version was made from {wanted}"
        raise TerminalError(message)


def _differences(model: Model, manifest: Manifest, data: Examples, ran_on: FitCode) -> list[Difference]:
    """Return each entry of the manifest that is different now, with both values. Missing entries are left out."""
    now: dict[str, Any] = {
        "rows": len(data),
        "content_hash": data.content_hash(),
        "code": ran_on.code.function,
        "service": model.features.version,
        "spec_hashes": {view.name: view.version for view in model.features.views},
        "label": to_document(model.label.spec),
    }
    then: dict[str, Any] = {name: getattr(manifest, name) for name in now}
    if manifest.code_modules is not UNSET:
        now |= _named("code_modules", ran_on.code.modules) | {"code_bound": ran_on.code.bound}
        then |= _named("code_modules", manifest.code_modules) | {"code_bound": manifest.code_bound or ""}
    if manifest.git is not UNSET:
        now["git"], then["git"] = msgspec.to_builtins(ran_on.git), msgspec.to_builtins(manifest.git)
    listed = libraries()
    now |= {f"libraries.{name}": listed.get(name) or _installed(name) for name in manifest.libraries}
    then |= _named("libraries", manifest.libraries)
    names = [*now, *(name for name in then if name not in now)]
    pairs = [(name, then.get(name, _ABSENT), now.get(name, _ABSENT)) for name in names]
    return [Difference(name, before, after) for name, before, after in pairs if before != after]


def _named(group: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{group}.{name}": value for name, value in values.items()}


def _installed(distribution: str) -> str:
    return installed_version(distribution) or "not listed"
