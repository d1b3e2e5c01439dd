"""The examples that a model learns from at a time t: matured rows with labels and point-in-time features."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from headrace.features.kernel.on_demand_polars import with_on_demand
from headrace.features.offline.feature_history import FeatureHistory, OwnRecords
from headrace.features.offline.vector_values import TEXTS, model_matrix, vector_columns
from headrace.models.category_columns import with_categories, with_own_categories
from headrace.models.prediction_task import BINARY
from headrace.trainers.data.label_values import label_values, truths
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.metrics.entity_blocks import entity_hashes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogSnapshot, ReadableLog
    from headrace.models.manifest import TimeSpan
    from headrace.models.prediction_task import PredictionTask
    from headrace.trainers.definitions import LearnFrom, Model


@dataclass(frozen=True)
class Examples:
    """Rows in the order of the request stream. ``frame`` is what an estimator gets; the arrays have one entry a row.

    ``label`` has the :func:`truths` of the ``task``.
    ``never_served`` counts the rows that were left out because they have no served vector to learn from, or only a
    doubtful one. ``positions`` maps a topic and a source partition to the offset below which every row was read.
    ``entity`` has the :func:`entity_hashes` of the rows, if the model's gate resamples entities.
    """

    frame: pd.DataFrame
    label: np.ndarray
    key: np.ndarray
    day: np.ndarray
    requested_us: np.ndarray
    never_served: int = 0
    positions: Mapping[str, Mapping[SourcePartition, int]] = field(default_factory=dict)
    task: PredictionTask = BINARY
    entity: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.label)

    def take(self, rows: np.ndarray) -> Examples:
        """Return the rows that the mask selects."""
        return Examples(
            with_own_categories(self.frame[rows].reset_index(drop=True)),
            self.label[rows],
            self.key[rows],
            self.day[rows],
            self.requested_us[rows],
            positions=self.positions,
            task=self.task,
            entity=None if self.entity is None else self.entity[rows],
        )

    def label_series(self) -> pd.Series:
        """The labels in the form that an estimator takes."""
        import pandas as pd  # noqa: PLC0415 - seconds at start-up that a reader of the log does not need

        return pd.Series(label_values(self.label, self.task), name="label")

    def content_hash(self) -> str:
        """``sha256:…`` over column names and values in order. Equal training sets have equal hashes."""
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


class ExampleBuilder:
    """Builds the training sets of one model from the event log. It reads each row of the log once."""

    def __init__(self, model: Model, log: ReadableLog) -> None:
        self._model = model
        self._log = log
        self._history = FeatureHistory([view.spec for view in model.features.views], log)
        self._known: pl.DataFrame | None = None
        self._restarts = 0
        self.model_log = ModelLog(model, log)

    def positions(self) -> dict[str, Mapping[SourcePartition, int]]:
        """Return topic → source partition → the offset below which every row was read, for each stream in use."""
        return {**self._history.positions(), **self.model_log.positions()}

    def build(
        self,
        t_us: int,
        learn_from: LearnFrom = "events",
        *,
        excluded: Sequence[TimeSpan] = (),
        snapshot: LogSnapshot | None = None,
    ) -> Examples:
        """Return the labelled rows that are matured at ``t_us``, without requests made in the ``excluded`` spans.

        With ``"events"`` the features are computed from the event log. For a row that was served, V is the one that was
        logged with it. For another row, V has the rows available at the request's time minus the view's delay. With
        ``"logged"``, for a model that learns from logged vectors, they are the values that the service
        has served with its present definition; rows without them are left out, and so are those whose values were
        doubtful when they were served, unless the model keeps them (``on_stale``).

        All topics are read from one ``snapshot`` of the log, by default a new one. So a topic with both features and
        labels is read to the same offsets for both.
        """
        snapshot = snapshot or self._log.snapshot()
        spine = self.spine(t_us, excluded=excluded, snapshot=snapshot)
        labelled = spine.height
        if learn_from == "logged":
            is_own = pl.col("__service").eq_missing(self._model.features.version)
            spine = spine.filter(is_own & ~pl.col("__doubtful"))
        found = self._logged(spine) if learn_from == "logged" else self.features(spine, snapshot)
        matrix = model_matrix(found, spine.select(list(self._model.request_features)))
        return Examples(
            with_categories(matrix, self._model.categories),
            truths(spine.get_column("__label"), self._model.label.predicts),
            spine.get_column("__key").to_numpy(),
            spine.get_column("__day").to_numpy(),
            spine.get_column("__requested_us").to_numpy(),
            labelled - spine.height,
            self.positions(),
            self._model.label.predicts,
            self._entities(spine),
        )

    def _entities(self, spine: pl.DataFrame) -> np.ndarray | None:
        keys = self._model.gate.block_keys
        return entity_hashes(spine.select(keys).iter_rows()) if keys else None

    def spine(self, t_us: int, *, excluded: Sequence[TimeSpan] = (), snapshot: LogSnapshot) -> pl.DataFrame:
        """Return the labelled requests that are matured at ``t_us``, in order, with their served vectors."""
        spine = self.model_log.spine(t_us, excluded=excluded, snapshot=snapshot)
        return spine.filter(pl.col("__label").is_not_null())

    def _logged(self, spine: pl.DataFrame) -> pl.DataFrame:
        return vector_columns(spine, self._model.features.column_kinds, values="__values", texts=f"__{TEXTS}")

    def features(self, spine: pl.DataFrame, snapshot: LogSnapshot) -> pl.DataFrame:
        """Return the feature columns of each row, in order. The features of a served row are computed once and kept.

        The value at a logged V never changes, unless an import was undone. For other rows V is what was available, as
        far as it is in the log by now.
        """
        spine = spine.with_columns(pl.col("__served_us").fill_null(pl.col("__requested_us")).alias("__at_us"))
        self._history.refresh(snapshot)
        if self._history.restarts != self._restarts:
            self._known, self._restarts = None, self._history.restarts
        known = self._known
        new = spine if known is None else spine.join(known.select(_ROW), on=_ROW, how="anti", maintain_order="left")
        if known is not None and new.is_empty():
            every = known
        else:
            found = self._computed(new)
            every = found if known is None else pl.concat([known, found])
            served = found.filter(new.get_column("__offsets").is_not_null())
            self._known = served if known is None else pl.concat([known, served])
        return spine.select(_ROW).join(every, on=_ROW, how="left", maintain_order="left").drop(_ROW)

    def _computed(self, rows: pl.DataFrame) -> pl.DataFrame:
        at_us, offsets = rows.get_column("__at_us").to_numpy(), rows.get_column("__offsets").to_list()
        own = OwnRecords(self._model.requests.topic, rows, self._model.own_event or "excluded")
        looked_up = self._history.features(rows, at_us, offsets, own)
        return rows.select(_ROW).hstack(with_on_demand(self._model.features.spec, looked_up, rows, at_us))


_ROW = ["__topic_id", "__partition", "__offset", "__at_us"]
"""The columns that identify a row of a spine."""
