"""The offline store for Feast: tiled views come from the event log, all other views from Feast's own file store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa
from feast import utils
from feast.feature_view import DUMMY_ENTITY_ID
from feast.infra.offline_stores.dask import DaskOfflineStore, DaskOfflineStoreConfig, DaskRetrievalJob
from feast.infra.offline_stores.offline_store import RetrievalMetadata
from feast.on_demand_feature_view import OnDemandFeatureView
from pydantic import Field

from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.feast.entity_df import EntityFrame
from headrace.feast.source import HeadraceSource, check_names, tiled
from headrace.features.definitions.expression_kinds import as_list
from headrace.features.offline.feature_history import FeatureHistory

if TYPE_CHECKING:
    from datetime import datetime

    import pandas as pd

_ROW = "__headrace_row"
_TIME = pa.timestamp("us", "UTC")
_SINGLE: dict[str, pa.DataType] = {
    "str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "datetime": _TIME, "date": _TIME,
}  # fmt: skip
_ARROW = {**_SINGLE, **{f"list({kind})": pa.list_(of) for kind, of in _SINGLE.items()}}


class HeadraceOfflineStoreConfig(DaskOfflineStoreConfig):
    """The settings of the offline store."""

    type: Literal["headrace.feast.HeadraceOfflineStore"] = (  # pyright: ignore[reportIncompatibleVariableOverride]
        "headrace.feast.HeadraceOfflineStore"
    )
    """Offline store type selector."""
    event_log: str = ".headrace/events"
    """Folder or URL of the event log's tables. A relative path starts at feature_store.yaml."""
    storage_options: dict[str, str] = Field(default_factory=dict, repr=False)
    """Settings of an object store: endpoint, region, credentials."""


class TrainingSetRetrieval(DaskRetrievalJob):
    """A training set. It is computed when its rows are asked for."""

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return self.evaluation_function()

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        found: pd.DataFrame = self._to_arrow_internal(timeout).to_pandas()
        return found


class HeadraceOfflineStore(DaskOfflineStore):
    """Point-in-time features of tiled and ordinary views for a spine. Every row of the spine comes back, in order.

    A tiled view has the values that a look-up at t would have given: from the rows that were available at t minus the
    view's delay. ``filter_by_created_timestamp`` does not change them.
    """

    @staticmethod
    def get_historical_features(
        config: Any,
        feature_views: list[Any],
        feature_refs: list[str],
        entity_df: Any,
        registry: Any,
        project: str,
        full_feature_names: bool = False,
        filter_by_created_timestamp: bool = False,
        **options: Any,
    ) -> Any:
        """Return a job for ``entity_df``: a DataFrame, or SQL over the event log. Raises DefinitionError."""
        options["filter_by_created_timestamp"] = filter_by_created_timestamp
        if entity_df is None and not any(map(tiled, feature_views)):
            return DaskOfflineStore.get_historical_features(
                config, feature_views, feature_refs, None, registry, project, full_feature_names, **options
            )
        log = event_log(config)
        spine = EntityFrame(entity_df, log)
        on_demand = utils._get_requested_on_demand_feature_views(feature_refs, project, registry)
        asked, _ = utils._get_requested_feature_views_to_features_dict(feature_refs, feature_views, on_demand)
        if not full_feature_names:
            check_names(asked.items())

        def ordinary(view: Any, features: Sequence[str], rows: pd.DataFrame) -> pd.DataFrame:
            refs = [f"{view.projection.name_to_use()}:{feature}" for feature in features]
            job = DaskOfflineStore.get_historical_features(config, [view], refs, rows, registry, project, **options)
            found: pd.DataFrame = job._to_df_internal()
            return found

        times = spine.frame[spine.time]
        return TrainingSetRetrieval(
            lambda: training_set(spine, asked, log, ordinary, full_names=full_feature_names),
            full_feature_names,
            str(config.repo_path),
            OnDemandFeatureView.get_requested_odfvs(feature_refs, project, registry),
            RetrievalMetadata(
                features=list(feature_refs),
                keys=[column for column in spine.frame.columns if column != spine.time],
                min_event_timestamp=None if times.empty else times.min().to_pydatetime(),
                max_event_timestamp=None if times.empty else times.max().to_pydatetime(),
            ),
        )

    @staticmethod
    def pull_all_from_table_or_query(config: Any, data_source: Any, *args: Any, **options: Any) -> Any:
        """Return the rows of an ordinary view's source. A tiled view gives none: it is never materialized."""
        if isinstance(data_source, HeadraceSource):
            return _nothing(config, data_source)
        return DaskOfflineStore.pull_all_from_table_or_query(config, data_source, *args, **options)

    @staticmethod
    def pull_latest_from_table_or_query(config: Any, data_source: Any, *args: Any, **options: Any) -> Any:
        """Return the newest rows of an ordinary view's source. A tiled view gives none."""
        if isinstance(data_source, HeadraceSource):
            return _nothing(config, data_source)
        return DaskOfflineStore.pull_latest_from_table_or_query(config, data_source, *args, **options)

    @staticmethod
    def get_monitoring_max_timestamp(config: Any, data_source: Any, *args: Any, **options: Any) -> datetime | None:
        """Return the newest time of an ordinary view's source; None for a tiled view, which Feast does not monitor."""
        if isinstance(data_source, HeadraceSource):
            return None
        found: datetime | None = DaskOfflineStore.get_monitoring_max_timestamp(config, data_source, *args, **options)
        return found

    @staticmethod
    def compute_monitoring_metrics(config: Any, data_source: Any, *args: Any, **options: Any) -> list[dict[str, Any]]:
        """Return the distributions of an ordinary view's source. A tiled view gives none."""
        if isinstance(data_source, HeadraceSource):
            return []
        found: list[dict[str, Any]] = DaskOfflineStore.compute_monitoring_metrics(config, data_source, *args, **options)
        return found

    @staticmethod
    def offline_write_batch(
        config: Any, feature_view: Any, table: pa.Table, progress: Callable[[int], Any] | None
    ) -> None:
        """Write rows of an ordinary view. Raises DefinitionError for a tiled view, which events alone change."""
        source = tiled(feature_view)
        if source is not None:
            raise DefinitionError(
                f"{table.num_rows} rows are to be written to {feature_view.name!r}, a tiled view, which is made of "
                f"events alone: produce them to the topic {', '.join(map(repr, source.spec.topics))}"
            )
        DaskOfflineStore.offline_write_batch(config, feature_view, table, progress)


def event_log(config: Any) -> EventLog:
    """Return the event log that the store's settings name."""
    own: HeadraceOfflineStoreConfig = config.offline_store
    place = own.event_log if "://" in own.event_log else str(Path(config.repo_path or ".") / own.event_log)
    return EventLog(place, own.storage_options)


def training_set(
    spine: EntityFrame,
    asked: Mapping[Any, Sequence[str]],
    log: EventLog,
    ordinary: Callable[[Any, Sequence[str], pd.DataFrame], pd.DataFrame],
    *,
    full_names: bool,
) -> pa.Table:
    """Return the spine with the features of each view, view by view.

    ``ordinary`` returns the features of an ordinary view for distinct rows; some rows may be missing.
    """
    prefixes = {view: f"{view.projection.name_to_use()}__" if full_names else "" for view in asked}
    spine.has_none_of(prefixes[view] + feature for view, features in asked.items() for feature in features)
    found = pa.Table.from_pandas(spine.frame, preserve_index=False)
    of_tiles = _tiled_columns(spine, asked, log)
    for view, features in asked.items():
        columns = of_tiles[view] if view in of_tiles else _ordinary_columns(spine, view, features, ordinary)
        for feature in features:
            found = found.append_column(prefixes[view] + feature, columns[feature])
    return found


def _columns(view: Any) -> list[tuple[str, str]]:
    """The view's join keys and the spine's columns that have them."""
    names = [column.name for column in view.entity_columns]
    return [(name, view.projection.join_key_map.get(name, name)) for name in names]


def _ordinary_columns(
    spine: EntityFrame,
    view: Any,
    features: Sequence[str],
    ordinary: Callable[[Any, Sequence[str], pd.DataFrame], pd.DataFrame],
) -> dict[str, pa.Array]:
    """The columns of one view, for distinct rows that are numbered: otherwise Feast's file store loses rows."""
    columns = [column for name, column in _columns(view) if name != DUMMY_ENTITY_ID]
    spine.lacks_none_of(columns)
    keys = spine.frame[[*columns, spine.time]]
    which = keys.groupby(list(keys.columns), dropna=False, sort=False).ngroup()
    distinct = keys.assign(**{_ROW: which}).drop_duplicates(_ROW)
    read = ordinary(view, features, distinct).drop_duplicates(_ROW).set_index(_ROW)
    rows = read[list(features)].reindex(which)
    return {feature: pa.Array.from_pandas(rows[feature]) for feature in features}


def _tiled_columns(
    spine: EntityFrame, asked: Mapping[Any, Sequence[str]], log: EventLog
) -> dict[Any, dict[str, pa.Array]]:
    """The columns of all tiled views. Views whose join keys have the same names are computed together."""
    together: dict[tuple[tuple[str, str], ...], list[Any]] = {}
    for view in filter(tiled, asked):
        together.setdefault(tuple(sorted(view.projection.join_key_map.items())), []).append(view)
    return {view: columns for views in together.values() for view, columns in _of_log(spine, views, log).items()}


def _of_log(spine: EntityFrame, views: Sequence[Any], log: EventLog) -> dict[Any, dict[str, pa.Array]]:
    sources: dict[Any, HeadraceSource] = {view: source for view in views if (source := tiled(view))}
    kinds = {name: kind for source in sources.values() for name, kind in source.spec.entity.key_kinds.items()}
    columns = dict(column for view in views for column in _columns(view))
    history = FeatureHistory([source.spec for source in {s.view: s for s in sources.values()}.values()], log)
    history.refresh()
    found = history.features(
        spine.keys([(name, columns.get(name, name), kind) for name, kind in kinds.items()]), spine.at_us
    )
    return {view: _of_view(found, source) for view, source in sources.items()}


def _of_view(found: pl.DataFrame, source: HeadraceSource) -> dict[str, pa.Array]:
    prefix = source.spec.name
    return {name: _arrow(found.get_column(f"{prefix}__{name}"), kind) for name, kind in source.kinds.items()}


def _arrow(column: pl.Series, kind: str) -> pa.Array:
    """Return a column with Feast's type, which has a date as the time of its beginning."""
    if kind in {"date", "list(date)"}:
        time = pl.Datetime("us", "UTC")
        column = column.cast(time if kind == "date" else pl.List(time))
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    return column.to_arrow(compat_level=pl.CompatLevel.oldest()).cast(_ARROW[as_list(kind)])


def _nothing(config: Any, source: HeadraceSource) -> TrainingSetRetrieval:
    keys = [(name, _ARROW[kind]) for name, kind in source.spec.entity.key_kinds.items()]
    features = [(name, _ARROW[as_list(kind)]) for name, kind in source.kinds.items()]
    schema = pa.schema([*keys, *features, (source.timestamp_field, _TIME)])
    return TrainingSetRetrieval(schema.empty_table, full_feature_names=False, repo_path=str(config.repo_path))
