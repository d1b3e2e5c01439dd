"""The rows of a training set that are a model's own requests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from headrace.features.definitions.spec import to_document
from headrace.features.offline.spine import BATCH_ROWS
from headrace.models.training_manifest import TrainingManifest
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.manifest_parts import label_column, manifest_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import polars as pl

    from headrace.event_log.readable_log import LogSnapshot, ReadableLog
    from headrace.features.offline.content_hash import ContentHash
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.definitions import Model


@dataclass
class RequestRows:
    """The requests of a model that are matured and labelled at ``as_of_us``: the rows that its trainer uses then."""

    model: Model
    log: ReadableLog
    as_of_us: int
    excluded: Sequence[TimeSpan] = ()

    @property
    def feature_columns(self) -> list[str]:
        """The columns of the model's service, in its order."""
        return self.model.features.columns()

    @property
    def label_column(self) -> str:
        """The label's column: ``label``, or ``<model>_label`` if a field or a feature has that name."""
        return label_column([*(field.name for field in self.model.requests.fields), *self.feature_columns], self.model)

    @cached_property
    def _snapshot(self) -> LogSnapshot:
        return self.log.snapshot()

    @cached_property
    def _examples(self) -> ExampleBuilder:
        return ExampleBuilder(self.model, self.log)

    @cached_property
    def _spine(self) -> pl.DataFrame:
        return self._examples.spine(self.as_of_us, excluded=self.excluded, snapshot=self._snapshot)

    def count(self) -> int:
        """Return the number of requests that are matured and labelled."""
        return self._spine.height

    def pieces(self) -> Iterator[pl.DataFrame]:
        """Yield the fields of the requests, their features and their label, ``BATCH_ROWS`` rows at a time."""
        fields = [field.name for field in self.model.requests.fields]
        for piece in self._spine.iter_slices(BATCH_ROWS) if self._spine.height else [self._spine]:
            label = piece.get_column("__label").alias(self.label_column)
            yield piece.select(fields).hstack(self._examples.features(piece, self._snapshot)).with_columns(label)

    def manifest(self, content: ContentHash) -> TrainingManifest:
        """Return a manifest that also says when the labels were read, and which spans were left out."""
        model = self.model
        return TrainingManifest(
            of="model",
            name=model.name,
            rows_from="requests",
            row_order=["available_at", "partition", "offset"],
            time=model.requested_at,
            as_of_us=self.as_of_us,
            label=to_document(model.label.spec),
            label_column=self.label_column,
            excluded=list(self.excluded),
            columns=[*(f.name for f in model.requests.fields), *self.feature_columns, self.label_column],
            **manifest_parts(model.features, self._examples.positions(), content),
        )
