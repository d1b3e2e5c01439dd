"""The rows of training sets: a model's own requests, or a spine that somebody gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from headrace.errors import DefinitionError, TerminalError
from headrace.event_log.pinned_log import PinnedLog
from headrace.features.definitions.service import FeatureService
from headrace.features.kernel.on_demand_polars import request_columns, with_on_demand
from headrace.features.offline.content_hash import ContentHash, content_hash
from headrace.features.offline.feature_history import FeatureHistory, OwnRecords
from headrace.features.offline.spine import BATCH_ROWS, Spine, keys_of, times_us
from headrace.models.training_manifest import TrainingManifest
from headrace.trainers.data.examples import ExampleBuilder
from headrace.trainers.data.model_log import ModelLog, joined_label
from headrace.trainers.data.pins import libraries, pinned_ends, pins

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.event_log import EventLog
    from headrace.models.manifest import TimeSpan
    from headrace.trainers.definitions import Model

LABEL = "label"
_PLACE = ["__partition", "__topic_id", "__offset"]
LogPositions = dict[str, "Mapping[SourcePartition, int]"]


@dataclass
class RequestRows:
    """The requests of a model that are matured and labelled at ``as_of_us``, as its trainer sees them then."""

    model: Model
    log: EventLog
    as_of_us: int
    excluded: Sequence[TimeSpan] = ()

    @property
    def feature_columns(self) -> list[str]:
        """See :class:`Rows`."""
        return self.model.features.columns()

    @property
    def label_column(self) -> str:
        """See :class:`Rows`."""
        return _label_column([*(field.name for field in self.model.requests.fields), *self.feature_columns], self.model)

    @cached_property
    def _sets(self) -> ExampleBuilder:
        sets = ExampleBuilder(self.model, self.log)
        sets.log.excluded = list(self.excluded)
        return sets

    @cached_property
    def _spine(self) -> pl.DataFrame:
        return self._sets.spine(self.as_of_us)

    def count(self) -> int:
        """See :class:`Rows`."""
        return self._spine.height

    def pieces(self) -> Iterator[pl.DataFrame]:
        """See :class:`Rows`."""
        fields = [field.name for field in self.model.requests.fields]
        for piece in self._spine.iter_slices(BATCH_ROWS) if self._spine.height else [self._spine]:
            label = piece.get_column("__label").alias(self.label_column)
            yield piece.select(fields).hstack(self._sets.features(piece)).with_columns(label)

    def manifest(self, content: ContentHash) -> TrainingManifest:
        """See :class:`Rows`."""
        model = self.model
        return TrainingManifest(
            of="model",
            name=model.name,
            rows_from="requests",
            row_order=["available_at", "partition", "offset"],
            time=model.requested_at,
            as_of_us=self.as_of_us,
            label=model.label.spec(),
            label_column=self.label_column,
            excluded=list(self.excluded),
            columns=[*(f.name for f in model.requests.fields), *self.feature_columns, self.label_column],
            **_common(model.features, self._sets.positions(), content),
        )


@dataclass
class SpineRows:
    """The rows of a spine, each as of its time. With a model its label too, where its key is there and it is matured.

    A row of a model that is a request, of the same key and time, never counts its own record; if it was served, it has
    the values that were served.
    """

    features: FeatureService
    log: EventLog
    spine: Spine
    time: str
    as_of_us: int
    model: Model | None = None
    _hash: ContentHash = field(default_factory=ContentHash)

    def __post_init__(self) -> None:
        self.log = self.log.one_look()
        taken = [name for name in self.spine.schema if name in self.feature_columns]
        if taken:
            message = f"the spine has columns of the names of features: {taken}; leave them out of it"
            raise DefinitionError(message)
        no_rows = pl.DataFrame(schema=dict(self.spine.schema))
        for view in self.features.views:
            keys_of(no_rows, _kinds(view.entity.spec()))
        request_columns(self.features.request_fields, no_rows)

    @property
    def feature_columns(self) -> list[str]:
        """See :class:`Rows`."""
        return self.features.columns()

    @property
    def label_column(self) -> str | None:
        """See :class:`Rows`."""
        model, names = self.model, [*self.spine.schema, *self.feature_columns]
        return None if model is None or model.label.on not in self.spine.schema else _label_column(names, model)

    def count(self) -> int:
        """See :class:`Rows`."""
        return self.spine.rows

    @cached_property
    def _history(self) -> FeatureHistory:
        history = FeatureHistory([view.spec for view in self.features.views], self.log)
        history.refresh()
        return history

    @cached_property
    def _known(self) -> _Known | None:
        return None if self.model is None else _Known.of(self.model, self.log)

    def pieces(self) -> Iterator[pl.DataFrame]:
        """See :class:`Rows`."""
        self._hash = ContentHash()
        for piece in self.spine.pieces():
            self._hash.update(piece)
            yield piece.hstack(self._features(piece)).with_columns(*self._label(piece))

    def _features(self, piece: pl.DataFrame) -> pl.DataFrame:
        kinds = {name: kind for view in self.features.views for name, kind in view.entity.spec()["keys"]}
        at_us, served, own = times_us(piece, self.time), None, None
        if self._known is not None and self._known.model.request_key in piece.columns:
            found = self._known.served(piece, self.time)
            at_us = found["__served_us"].fill_null(pl.Series(at_us)).to_numpy()
            served, own = found["__offsets"].to_list(), OwnRecords(self._known.model.requests.topic, found)
        found = self._history.features(keys_of(piece, kinds), at_us, served, own)
        return with_on_demand(self.features.spec, found, piece)

    def _label(self, piece: pl.DataFrame) -> list[pl.Series]:
        if self._known is None or self.label_column is None:
            return []
        return [self._known.labels(piece, self.time, self.as_of_us).alias(self.label_column)]

    def manifest(self, content: ContentHash) -> TrainingManifest:
        """See :class:`Rows`."""
        label = [] if self.label_column is None else [self.label_column]
        positions: LogPositions = self._history.positions() | (
            {} if self._known is None else self._known.log.positions()
        )
        return TrainingManifest(
            of="service" if self.model is None else "model",
            name=self.features.name if self.model is None else self.model.name,
            rows_from="spine",
            row_order=["as given"],
            time=self.time,
            as_of_us=self.as_of_us,
            label=self.model.label.spec() if self.model is not None and label else None,
            label_column=self.label_column,
            spine_columns=list(self.spine.schema),
            spine_hash=self._hash.text(),
            columns=[*self.spine.schema, *self.feature_columns, *label],
            **_common(self.features, positions, content),
        )


@dataclass(frozen=True)
class _Known:
    """What was served of a model's requests, and what became of them."""

    model: Model
    log: ModelLog
    requests: pl.DataFrame
    vectors: pl.DataFrame
    outcomes: pl.DataFrame

    @staticmethod
    def of(model: Model, log: EventLog) -> _Known:
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
        return _Known(model, own, requests, vectors, own.labels())

    def served(self, piece: pl.DataFrame, time: str) -> pl.DataFrame:
        """``__served_us`` and ``__offsets`` of each row that was served, and the place of each request; else null."""
        asked = piece.select(pl.col(self.model.request_key).cast(pl.String).alias("__key")).with_columns(
            pl.Series("__time", times_us(piece, time))
        )
        for known in (self.vectors, self.requests):
            asked = asked.join(known, on=["__key", "__time"], how="left", maintain_order="left")
        return asked

    def labels(self, piece: pl.DataFrame, time: str, as_of_us: int) -> pl.Series:
        """The label of each matured row; null where there is none, or not yet."""
        label = self.model.label
        kind = label.stream.field(label.on).kind
        asked = keys_of(piece, {label.on: kind}).with_columns(pl.Series("__time", times_us(piece, time)))
        found = asked.join(self.outcomes, left_on=label.on, right_on="__on", how="left", maintain_order="left")
        until = pl.col("__time") + label.within_us
        known = joined_label(label, until, self.log.labels_clock_us())
        is_asked = (until <= as_of_us) & pl.col(label.on).is_not_null()
        return found.select(pl.when(is_asked).then(known).alias(LABEL)).to_series()


def rows_again(
    manifest: TrainingManifest, definition: Model | FeatureService, event_log: str, spine: Spine | None = None
) -> RequestRows | SpineRows:
    """The rows that a manifest tells of, from those rows of the event log that it pins.

    Raises TerminalError where the definitions are others by now, or the spine is missing or another one.
    """
    model = None if isinstance(definition, FeatureService) else definition
    features = definition if isinstance(definition, FeatureService) else definition.features
    if features.version != manifest.service:
        changed = [view.name for view in features.views if view.version != manifest.spec_hashes.get(view.name)]
        message = (
            f"{manifest.of} {manifest.name!r} is defined otherwise now, in its views "
            f"{changed or 'and their order, or its on-demand features'}: "
            f"take the code that made service {manifest.service}"
        )
        raise TerminalError(message)
    log = PinnedLog(event_log, pinned_ends(manifest.streams))
    if manifest.rows_from == "requests" and model is not None:
        return RequestRows(model, log, manifest.as_of_us, manifest.excluded)
    return SpineRows(features, log, _insisted(spine, manifest), manifest.time, manifest.as_of_us, model)


def _insisted(spine: Spine | None, manifest: TrainingManifest) -> Spine:
    if spine is None:
        message = f"the training set of {manifest.name!r} was made for a spine of {manifest.rows:,} rows: give it again"
        raise TerminalError(message)
    own = spine.select(manifest.spine_columns)
    found = content_hash(own.pieces())
    if found != manifest.spine_hash:
        message = f"this is another spine: {found}; the training set was made for {manifest.spine_hash}"
        raise TerminalError(message)
    return own


def _common(features: FeatureService, positions: LogPositions, content: ContentHash) -> dict[str, Any]:
    return {
        "service": features.version,
        "spec_hashes": {view.name: view.version for view in features.views},
        "streams": pins(positions),
        "feature_columns": features.columns(),
        "rows": content.rows,
        "content_hash": content.text(),
        "libraries": libraries(),
    }


def _kinds(entity: Mapping[str, Any]) -> dict[str, str]:
    return dict(entity["keys"])


def _label_column(taken: Sequence[str], model: Model) -> str:
    return LABEL if LABEL not in taken else f"{model.name}_{LABEL}"
