"""The evidence about one model: from its log, and from other models of it that predict its logged vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.base.times import utc_datetime
from headrace.errors import ArtifactError, FitError, NotInLogYetError
from headrace.models.model_state import earlier_live
from headrace.trainers.data.input_watch import InputWatch
from headrace.trainers.data.label_values import prediction_array
from headrace.trainers.data.model_log import ModelLog, outside
from headrace.trainers.data.shadow_refit import ShadowRefit
from headrace.trainers.data.shared_vectors import SharedVectors
from headrace.trainers.data.version_scores import VersionScores, is_like, yardstick_of
from headrace.trainers.triggers.evidence import (
    DAY_US,
    Compared,
    Evidence,
    Rival,
    ServedScores,
    YardstickScores,
    no_outcomes,
    no_scores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.event_log.readable_log import ReadableLog
    from headrace.models.artifact_places import ArtifactPlaces
    from headrace.models.manifest import TimeSpan
    from headrace.models.model_events import Published
    from headrace.models.model_state import ModelState
    from headrace.trainers.data.served_nulls import ServedNulls
    from headrace.trainers.data.shadow_refit import FitFunction
    from headrace.trainers.definitions import Model

_NO_VERSION = "no version has the model's present features and its task, so there are no scores to compare"


@dataclass(frozen=True)
class EvidenceSources:
    """Where other models than the live version come from: versions from ``places``, with ``trusted`` types in them.

    ``fit`` makes a refit, see :class:`ShadowRefit`; without it there is none.
    """

    places: ArtifactPlaces
    trusted: Sequence[str] = ()
    fit: FitFunction | None = None


class ModelEvidence:
    """Reads what the rules of one model judge by. Not for several threads at once.

    A version is loaded, or a refit made, when a rule asks for it. Without ``sources`` a rule gets the scores that the
    live version has served, and no other model to compare it with. Without ``nulls`` no inputs are watched.
    ``vectors`` are those that other models read too.
    """

    def __init__(
        self,
        model: Model,
        log: ReadableLog,
        sources: EvidenceSources | None = None,
        nulls: ServedNulls | None = None,
        vectors: SharedVectors | None = None,
    ) -> None:
        self._model = model
        self._own = ModelLog(model, log)
        self._watch = None if nulls is None else InputWatch(model, self._own, nulls)
        self._versions: VersionScores | None = None
        self._scored: tuple[object, ServedScores] | None = None
        self._refit: ShadowRefit | None = None
        if sources is not None:
            vectors = vectors or SharedVectors(log, {model.name: model})
            self._versions = VersionScores(model, vectors, sources.places, sources.trusted)
            self._refit = None if sources.fit is None else ShadowRefit(model, log, vectors, sources.fit)

    def evidence(self, t_us: int, state: ModelState | None, excluded: Sequence[TimeSpan] = ()) -> Evidence:
        """Return the evidence at a time. Without a ``state``, or before the first version, labels are counted only."""
        version = None if state is None else state.version
        found = self._own.evidence(t_us, version, excluded)
        if self._watch is not None and version is not None:
            found = replace(found, watched=self._watch.look(t_us, excluded))
        if self._versions is None or state is None or version is None:
            return found
        asked = _EvaluatedAt(state, version, t_us, excluded)
        return replace(
            found,
            by_yardstick=partial(self._by_yardstick, self._versions, asked),
            compared=partial(self._compared, self._versions, asked),
        )

    def _by_yardstick(self, versions: VersionScores, asked: _EvaluatedAt) -> YardstickScores:
        yardstick = yardstick_of(asked.state, self._model)
        if yardstick is None:
            return YardstickScores(no_scores(), lacking=_NO_VERSION)
        try:
            rows = versions.of(yardstick, asked.t_us)
        except (ArtifactError, NotInLogYetError) as error:
            return YardstickScores(no_scores(), yardstick.version, f"there are no scores to compare: {error}")
        return YardstickScores(self._before_today(rows, yardstick, asked), yardstick.version)

    def _before_today(self, rows: pl.DataFrame, yardstick: Published, asked: _EvaluatedAt) -> ServedScores:
        """Return the scores of the days before the evaluation: the same object, if there are no others."""
        earlier = rows.get_column("requested_at") < utc_datetime(asked.t_us // DAY_US * DAY_US)
        of = yardstick.artifact.digest, tuple(asked.excluded), int(earlier.sum())
        if self._scored is None or self._scored[0] != of:
            asked_us = pl.col("requested_at").dt.epoch("us")
            rows = rows.filter(earlier).filter(outside(asked.excluded, asked_us))
            day = rows.get_column("requested_at").dt.epoch("us") // DAY_US
            scores = prediction_array(rows.get_column("score"), self._model.label.predicts)
            self._scored = of, ServedScores(day.to_numpy(), scores)
        return self._scored[1]

    def _compared(self, versions: VersionScores, asked: _EvaluatedAt, rival: Rival, from_day: int) -> Compared:
        """Return the live version's outcomes since a day that the rival has predicted too."""
        try:
            if rival == "refit":
                rows, name = self._of_refit(asked, from_day)
            else:
                rows, name = self._of_previous(versions, asked)
        except (ArtifactError, FitError, NotInLogYetError) as error:
            return Compared(no_outcomes(), np.zeros(0), lacking=str(error))
        live = self._own.outcomes(asked.t_us, asked.version, "live", excluded=asked.excluded)
        theirs = self._own.outcomes_of(rows, asked.t_us, excluded=asked.excluded)
        keys = ["key", "__requested_us"]
        theirs = theirs.select(*keys, pl.col("score").alias("other"))
        both = live.filter(pl.col("__day") >= from_day).join(theirs, on=keys, maintain_order="left")
        others = prediction_array(both.get_column("other"), self._model.label.predicts)
        return Compared(self._own.as_outcomes(both), others, name)

    def _of_refit(self, asked: _EvaluatedAt, from_day: int) -> tuple[pl.DataFrame, str]:
        if self._refit is None:
            raise FitError("this process makes no refits to compare with")
        rows = self._refit.frame(from_day, asked.excluded)
        return rows, self._refit.name

    def _of_previous(self, versions: VersionScores, asked: _EvaluatedAt) -> tuple[pl.DataFrame, str]:
        earlier = [event.data.version for event in earlier_live(asked.state)]
        published = asked.state.publication(earlier[0]) if earlier else None
        if published is None:
            raise ArtifactError("there is no version before the live one to compare with")
        if not is_like(published, self._model):
            raise ArtifactError(f"version {published.version} has other features or another task than the model now")
        return versions.of(published, asked.t_us), f"version {published.version}"


@dataclass(frozen=True)
class _EvaluatedAt:
    """The live version, the state that it is of, and the time and the spans of an evaluation."""

    state: ModelState
    version: int
    t_us: int
    excluded: Sequence[TimeSpan]
