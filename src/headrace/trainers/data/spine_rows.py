"""The rows of a training set that are a given spine: rows of one's own with keys and times."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import polars as pl

from headrace.errors import DefinitionError
from headrace.features.definitions.spec import to_document
from headrace.features.kernel.on_demand_polars import request_columns, with_on_demand
from headrace.features.offline.content_hash import ContentHash
from headrace.features.offline.feature_history import FeatureHistory, OwnRecords
from headrace.features.offline.spine import keys_of, times_us
from headrace.models.training_manifest import TrainingManifest
from headrace.trainers.data.manifest_parts import LABEL, label_column, manifest_parts
from headrace.trainers.data.model_log import ModelLog
from headrace.trainers.data.request_joins import joined_labels

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.readable_log import LogSnapshot, ReadableLog
    from headrace.features.definitions.service import FeatureService
    from headrace.features.offline.spine import Spine
    from headrace.trainers.definitions import Model

_PLACE = ["__partition", "__topic_id", "__offset"]


@dataclass
class SpineRows:
    """The rows of a spine, each with the features as of its time.

    With a ``model`` a matured row also gets its label, if the spine has the column that the label joins on. A row with
    the key and time of one of the model's requests counts the record of that request as the model's ``own_event`` says;
    if the request was served, the row gets the served values.
    """

    features: FeatureService
    log: ReadableLog
    spine: Spine
    time: str
    as_of_us: int
    model: Model | None = None
    _hash: ContentHash = field(default_factory=ContentHash)

    def __post_init__(self) -> None:
        taken = [name for name in self.spine.schema if name in self.feature_columns]
        if taken:
            message = f"the spine has columns with the names of features: {taken}; remove them"
            raise DefinitionError(message)
        no_rows = pl.DataFrame(schema=dict(self.spine.schema))
        for view in self.features.views:
            keys_of(no_rows, view.entity.spec.key_kinds)
        request_columns(self.features.request_fields, no_rows)

    @property
    def feature_columns(self) -> list[str]:
        """The columns of the service, in its order."""
        return self.features.columns()

    @property
    def label_column(self) -> str | None:
        """The label's column; None without a model, or if the spine lacks the column that the label joins on."""
        model, names = self.model, [*self.spine.schema, *self.feature_columns]
        return None if model is None or model.label.on not in self.spine.schema else label_column(names, model)

    def count(self) -> int:
        """Return the number of rows of the spine."""
        return self.spine.rows

    @cached_property
    def _snapshot(self) -> LogSnapshot:
        return self.log.snapshot()

    @cached_property
    def _history(self) -> FeatureHistory:
        history = FeatureHistory([view.spec for view in self.features.views], self._snapshot)
        history.refresh()
        return history

    @cached_property
    def _known(self) -> _KnownRequests | None:
        return None if self.model is None else _KnownRequests.read(self.model, self._snapshot)

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield the pieces of the spine with features and labels. Hash the spine on the way."""
        self._hash = ContentHash()
        for piece in self.spine.pieces():
            self._hash.update(piece)
            yield piece.hstack(self._features(piece)).with_columns(*self._label(piece))

    def _features(self, piece: pl.DataFrame) -> pl.DataFrame:
        kinds = {key.name: key.kind for view in self.features.views for key in view.entity.spec.keys}
        at_us, served, own = times_us(piece, self.time), None, None
        if self._known is not None and self._known.model.request_key in piece.columns:
            found = self._known.served(piece, self.time)
            at_us = found["__served_us"].fill_null(pl.Series(at_us)).to_numpy()
            model, served = self._known.model, found["__offsets"].to_list()
            own = OwnRecords(model.requests.topic, found, model.own_event or "excluded")
        found = self._history.features(keys_of(piece, kinds), at_us, served, own)
        return with_on_demand(self.features.spec, found, piece, at_us)

    def _label(self, piece: pl.DataFrame) -> list[pl.Series]:
        if self._known is None or self.label_column is None:
            return []
        return [self._known.labels(piece, self.time, self.as_of_us).alias(self.label_column)]

    def manifest(self, content: ContentHash) -> TrainingManifest:
        """Return a manifest that also has the hash of the spine, as :meth:`pieces` read it."""
        label = [] if self.label_column is None else [self.label_column]
        positions: dict[str, Mapping[SourcePartition, int]] = self._history.positions() | (
            {} if self._known is None else self._known.log.positions()
        )
        return TrainingManifest(
            of="service" if self.model is None else "model",
            name=self.features.name if self.model is None else self.model.name,
            rows_from="spine",
            row_order=["as given"],
            time=self.time,
            as_of_us=self.as_of_us,
            label=to_document(self.model.label.spec) if self.model is not None and label else None,
            label_column=self.label_column,
            spine_columns=list(self.spine.schema),
            spine_hash=self._hash.digest(),
            columns=[*self.spine.schema, *self.feature_columns, *label],
            **manifest_parts(self.features, positions, content),
        )


@dataclass(frozen=True)
class _KnownRequests:
    """The requests of a model in the log, the vectors that were served for them, and their labels."""

    model: Model
    log: ModelLog
    requests: pl.DataFrame
    vectors: pl.DataFrame
    known_labels: pl.DataFrame

    @staticmethod
    def read(model: Model, log: ReadableLog) -> _KnownRequests:
        own = ModelLog(model, log)
        requests = own.requests().select(
            pl.col(model.request_key).cast(pl.String).alias("__key"),
            pl.col(model.requested_at).dt.epoch("us").alias("__time"),
            *_PLACE,
        )
        requests = requests.unique(["__key", "__time"], keep="first", maintain_order=True)
        vectors = own.vectors().select(
            pl.col("key").alias("__key"),
            pl.col("requested_at").dt.epoch("us").alias("__time"),
            pl.col("served_at").dt.epoch("us").alias("__served_us"),
            pl.col("offsets").alias("__offsets"),
        )
        return _KnownRequests(model, own, requests, vectors, own.labels())

    def served(self, piece: pl.DataFrame, time: str) -> pl.DataFrame:
        """Add ``__served_us`` and ``__offsets`` of the served vector and the place of the request, or null."""
        asked = piece.select(pl.col(self.model.request_key).cast(pl.String).alias("__key")).with_columns(
            pl.Series("__time", times_us(piece, time))
        )
        for known in (self.vectors, self.requests):
            asked = asked.join(known, on=["__key", "__time"], how="left", maintain_order="left")
        return asked

    def labels(self, piece: pl.DataFrame, time: str, as_of_us: int) -> pl.Series:
        """Return the label of each matured row; null if it has none, or none yet."""
        label = self.model.label
        kind = label.stream.field(label.on).kind
        key = keys_of(piece, {label.on: kind}).get_column(label.on)
        asked = pl.DataFrame({"__on": key, "__asked_us": times_us(piece, time)})
        found = joined_labels(asked, self.known_labels, label, self.log.labels_clock_us())
        is_asked = (pl.col("__asked_us") + label.spec.within_us <= as_of_us) & pl.col("__on").is_not_null()
        return asked.hstack(found).select(pl.when(is_asked).then("__label").alias(LABEL)).to_series()
