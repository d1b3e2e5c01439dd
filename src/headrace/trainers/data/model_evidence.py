"""The evidence about one model: from its log, and from versions of it that score its logged vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import polars as pl

from headrace.errors import ArtifactError, NotInLogYetError
from headrace.trainers.data.label_values import prediction_array
from headrace.trainers.data.model_log import ModelLog, outside
from headrace.trainers.data.version_scores import VersionScores, yardstick_of
from headrace.trainers.triggers.evidence import DAY_US, Evidence, ServedScores, YardstickScores, no_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.event_log.readable_log import ReadableLog
    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.models.manifest import TimeSpan
    from headrace.models.model_state import ModelState
    from headrace.trainers.definitions import Model

_NO_VERSION = "no version has the model's present features and its task, so there are no scores to compare"


@dataclass(frozen=True)
class EvidenceSources:
    """Where versions come from: they are loaded from ``places``, with ``trusted`` types in them."""

    places: ArtifactPlaces
    trusted: Sequence[str] = ()


class ModelEvidence:
    """Reads what the rules of one model judge by. Not for several threads at once.

    A version is loaded when a rule asks for its scores. Without ``sources`` a rule gets the scores that the live
    version has served.
    """

    def __init__(self, model: Model, log: ReadableLog, sources: EvidenceSources | None = None) -> None:
        self._model = model
        self._own = ModelLog(model, log)
        self._versions = None if sources is None else VersionScores(model, log, sources.places, sources.trusted)

    def evidence(self, t_us: int, state: ModelState | None, excluded: Sequence[TimeSpan] = ()) -> Evidence:
        """Return the evidence at a time. Without a ``state``, or before the first version, labels are counted only."""
        version = None if state is None else state.version
        found = self._own.evidence(t_us, version, excluded)
        if self._versions is None or state is None or version is None:
            return found
        return replace(found, by_yardstick=partial(self._by_yardstick, self._versions, state, t_us, excluded))

    def _by_yardstick(
        self, versions: VersionScores, state: ModelState, t_us: int, excluded: Sequence[TimeSpan]
    ) -> YardstickScores:
        yardstick = yardstick_of(state, self._model)
        if yardstick is None:
            return YardstickScores(no_scores(), lacking=_NO_VERSION)
        try:
            rows = versions.of(yardstick, t_us)
        except (ArtifactError, NotInLogYetError) as error:
            return YardstickScores(no_scores(), yardstick.version, f"there are no scores to compare: {error}")
        asked_us = pl.col("requested_at").dt.epoch("us")
        rows = rows.filter(outside(excluded, asked_us))
        day = rows.get_column("requested_at").dt.epoch("us") // DAY_US
        scores = prediction_array(rows.get_column("score"), self._model.label.predicts)
        return YardstickScores(ServedScores(day.to_numpy(), scores), yardstick.version)
