"""The scores of published versions for the logged vectors of their model: each version is loaded once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headrace.errors import ArtifactError, TransientError
from headrace.trainers.data.vector_scores import VectorScores

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.models.model_events import Published
    from headrace.models.model_state import ModelState
    from headrace.trainers.data.shared_vectors import SharedVectors
    from headrace.trainers.definitions import Model

_MOST = 2
_RETRY_US = 600_000_000


class VersionScores:
    """Loads versions from ``places``, with ``trusted`` types in them, and scores the vectors with them.

    The two versions that were asked for last are kept, with a score for each vector. A version that cannot be loaded is
    tried again after ten minutes of event time. Not for several threads at once.
    """

    def __init__(self, model: Model, vectors: SharedVectors, places: ArtifactPlaces, trusted: Sequence[str]) -> None:
        self._model = model
        self._vectors = vectors
        self._places = places
        self._trusted = trusted
        self._loaded: dict[str, VectorScores] = {}
        self._away: dict[str, tuple[int, str]] = {}

    def of(self, version: Published, t_us: int) -> pl.DataFrame:
        """Return what a version with the model's present features and task says of requests after its training rows.

        See :class:`VectorScores`. Raises ArtifactError if it cannot be loaded.
        """
        digest = version.artifact.digest
        found = self._loaded.pop(digest, None) or self._load(version, t_us)
        self._loaded[digest] = found  # the last one now
        for older in [*self._loaded][:-_MOST]:
            del self._loaded[older]
        return found.frame()

    def _load(self, version: Published, t_us: int) -> VectorScores:
        estimator = self._estimator(version, t_us)
        feed = self._vectors.feed(self._model.name)
        return VectorScores(self._model, feed, estimator, from_us=version.trained_to_us + 1)

    def _estimator(self, version: Published, t_us: int) -> Any:
        digest = version.artifact.digest
        tried_us, why = self._away.get(digest, (0, ""))
        if why and tried_us <= t_us < tried_us + _RETRY_US:
            raise ArtifactError(why)
        try:
            found = self._places.load(version.artifact, self._trusted)
        except (ArtifactError, TransientError) as error:
            self._away[digest] = t_us, f"version {version.version} cannot be loaded: {error}"
            raise ArtifactError(self._away[digest][1]) from error
        self._away.pop(digest, None)
        return found


def yardstick_of(state: ModelState, model: Model) -> Published | None:
    """Return the oldest version with the model's present features and task that is not retired, or None.

    It was fitted before the others, so the most vectors are later than its training rows.
    """
    versions = sorted({event.data.version for event in state.history} - state.retired)
    published = [found for version in versions if (found := state.publication(version)) is not None]
    return next((each for each in published if is_like(each, model)), None)


def is_like(version: Published, model: Model) -> bool:
    """Return whether a version can predict the vectors of the model's present features, for its present task."""
    service = version.service
    asked = (service.hash, service.request_features, version.predicts)
    return asked == (model.features.version, list(model.request_features), model.label.predicts)
