"""The scores that one estimator gives to the logged vectors of a model, whatever version they were served to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl

from headrace.event_log.columns import ACCEPTED
from headrace.features.offline.vector_values import model_matrix, no_numbers, vector_columns
from headrace.models.category_columns import with_categories
from headrace.models.row_scores import row_scores
from headrace.trainers.data.model_log import is_doubtful

if TYPE_CHECKING:
    import pandas as pd

    from headrace.trainers.data.shared_vectors import VectorFeed
    from headrace.trainers.definitions import Model

_PIECE = 50_000
"""The rows that are scored at once: only their values are in memory twice."""


class VectorScores:
    """Scores each vector of a model once, and keeps the key, the time and the score: not the values.

    Vectors of another definition of the features are left out, as the estimator knows other columns; so are those whose
    values were doubtful, unless the model keeps them, and those that the estimator cannot predict. Of several vectors
    of one request the first one that is read counts. Requests before ``from_us`` are left out. Not for several threads
    at once.
    """

    def __init__(self, model: Model, vectors: VectorFeed, estimator: Any, *, from_us: int = 0) -> None:
        self._model = model
        self._estimator = estimator
        self._from_us = from_us
        self._reader = vectors
        self._scored: pl.DataFrame | None = None

    def frame(self) -> pl.DataFrame:
        """Return ``key``, ``requested_at`` and ``score`` of the vectors in the log by now.

        ``score`` is that of :func:`prediction_of`. Raises NotInLogYetError while there are no vectors.
        """
        new = self._reader.read().filter(self._is_own()).sort("__available_at", maintain_order=True)
        if self._scored is None or not new.is_empty():
            known = [] if self._scored is None else [self._scored]
            scored = pl.concat([*known, *map(self._score, new.iter_slices(_PIECE) if new.height else [new])])
            self._scored = scored.unique(["key", "requested_at"], keep="first", maintain_order=True)
        return self._scored

    def _is_own(self) -> pl.Expr:
        model = self._model
        own = (pl.col("model") == model.name) & (pl.col("service") == model.features.version)
        own &= pl.col("requested_at").dt.epoch("us") >= self._from_us
        own &= pl.col("values").list.len() == len(model.features.columns())
        return (pl.col("__verdict") == ACCEPTED) & own & ~is_doubtful(model)

    def _score(self, vectors: pl.DataFrame) -> pl.DataFrame:
        task = self._model.label.predicts
        requests = [_fields(request) for request in vectors.get_column("request").to_list()]
        whole = np.array([all(name in request for name in self._model.request_features) for request in requests], bool)
        kept = [request for request, is_whole in zip(requests, whole.tolist(), strict=True) if is_whole]
        vectors = vectors.filter(whole)
        found = row_scores(self._estimator, self._matrix(vectors, kept), task).scores
        kind = pl.List(pl.Float64) if task.outputs else pl.Float64
        scored = vectors.select("key", "requested_at", pl.Series("score", found.tolist(), kind))
        finite = np.isfinite(found)
        return scored.filter((finite if finite.ndim == 1 else finite.all(axis=1)).tolist())

    def _matrix(self, vectors: pl.DataFrame, requests: list[dict[str, Any]]) -> pd.DataFrame:
        """Return what the estimator gets, as the application that served these vectors gave it."""
        import pandas as pd  # noqa: PLC0415 - seconds at start-up that a trainer without such a rule does not need

        kinds = self._model.features.column_kinds
        columns = list(kinds)
        if no_numbers(kinds):
            frame = model_matrix(vector_columns(vectors, kinds), pl.DataFrame())
            return self._with_request(frame, requests)
        values = np.array(vectors.get_column("values").to_list(), np.float64).reshape(len(requests), len(columns))
        return self._with_request(pd.DataFrame(values, columns=columns), requests)

    def _with_request(self, frame: pd.DataFrame, requests: list[dict[str, Any]]) -> pd.DataFrame:
        """Return a frame with the request features after its columns."""
        import pandas as pd  # noqa: PLC0415

        own = {name: [request[name] for request in requests] for name in self._model.request_features}
        whole = pd.concat([frame, pd.DataFrame(own, index=frame.index)], axis=1) if own else frame
        return with_categories(whole, self._model.categories)


def _fields(request: str) -> dict[str, Any]:
    """Return the fields of a request that was logged as JSON; none if it is something else."""
    try:
        return msgspec.json.decode(request, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}
