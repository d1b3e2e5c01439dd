"""The training set of a model at a time t: matured rows with labels and point-in-time features, in order."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.features.training import FeatureHistory
from headrace.trainers.model_log import ModelLog

if TYPE_CHECKING:
    import pandas as pd

    from headrace.features.log import EventLog
    from headrace.trainers.definitions import Model


@dataclass(frozen=True)
class TrainingSet:
    """Rows in the order of the request stream. ``frame`` is what an estimator sees; the arrays have one entry a row."""

    frame: pd.DataFrame
    label: np.ndarray
    key: np.ndarray
    day: np.ndarray
    requested_us: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> TrainingSet:
        """Some of the rows."""
        return TrainingSet(
            self.frame[rows].reset_index(drop=True),
            self.label[rows],
            self.key[rows],
            self.day[rows],
            self.requested_us[rows],
        )

    def content_hash(self) -> str:
        """``sha256:…`` over column names and values in order: equal for equal training sets, whatever made them."""
        digest = hashlib.sha256()
        for name in self.frame.columns:
            digest.update(name.encode() + b"\0" + _bytes(self.frame[name].to_numpy()))
        for array in (self.label, self.key, self.requested_us):
            digest.update(_bytes(array))
        return "sha256:" + digest.hexdigest()


def _bytes(array: np.ndarray) -> bytes:
    if array.dtype == object:
        return "\0".join(map(str, array.tolist())).encode()
    return np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes()


class TrainingSets:
    """Builds training sets of one model from the event log; reads each row of the log once."""

    def __init__(self, model: Model, log: EventLog) -> None:
        self._model = model
        self._history = FeatureHistory([view.spec for view in model.features.views], log)
        self.log = ModelLog(model, log)

    @property
    def history(self) -> FeatureHistory:
        """The streams of the model's views."""
        return self._history

    def build(self, t_us: int) -> TrainingSet:
        """The labelled rows that are matured at ``t_us``.

        A row's features are those that were served, by their logged V; of a row that was never served, those of the
        rows available at the request's time minus the view's delay.
        """
        model = self._model
        spine = self.log.spine(t_us).filter(pl.col("__label").is_not_null())
        self._history.refresh()
        at_us = spine.get_column("__served_us").fill_null(spine.get_column("__requested_us")).to_numpy()
        features = self._history.features(spine, at_us, spine.get_column("__offsets").to_list())
        return TrainingSet(
            model_matrix(features, spine.select(list(model.request_features))),
            spine.get_column("__label").to_numpy().astype(np.int8),
            spine.get_column("__key").to_numpy(),
            spine.get_column("__day").to_numpy(),
            spine.get_column("__requested_us").to_numpy(),
        )


def model_matrix(features: pl.DataFrame, request: pl.DataFrame) -> pd.DataFrame:
    """What an estimator sees: feature columns as float64 (NaN is no value), then the request features as they are."""
    numbers = features.select(pl.all().cast(pl.Float64).fill_null(float("nan")))
    return numbers.hstack(request).to_pandas()
