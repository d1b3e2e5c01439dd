"""Explains the value of one feature: its tiles, the newest events in them, V and the definition's version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from headrace.base.times import epoch_us
from headrace.errors import DefinitionError
from headrace.features.kernel.field import unpack
from headrace.features.kernel.python_values import python_list
from headrace.features.kernel.tile_kernel import TileKernel, kernel
from headrace.serving.features import FeatureClient, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    import polars as pl

    from headrace.bus.source_partition import SourcePartition
    from headrace.event_log.event_log import EventLog
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.kernel.window_tiles import WindowTiles
    from headrace.features.online.store import OnlineStore, StoredFields, WantedKeys
    from headrace.serving.look_up import LookUpOptions


@dataclass(frozen=True)
class ExplainedTile:
    """A tile inside the window at t: it covers event times [begin_us, end_us) of one source partition.

    ``value`` is the feature's value from this tile alone, None if it has none.
    """

    source: SourcePartition
    begin_us: int
    end_us: int
    value: Any


@dataclass(frozen=True)
class Explanation:
    """One feature of one entity at ``at``: ``value`` is merged from ``tiles``, oldest first.

    ``events`` are the newest rows of the event log in these tiles, newest last, with every field. Rows beyond V, and
    rows that are not in the log yet, are left out.
    """

    feature: str
    view: str
    version: str
    window: str
    entity: Mapping[str, Any]
    at: datetime
    value: Any
    status: Status
    offsets: Mapping[str, int]
    tiles: Sequence[ExplainedTile]
    events: pl.DataFrame


def explain(
    store: OnlineStore,
    log: EventLog,
    spec: ViewSpec,
    feature: str,
    entity: Mapping[str, Any],
    *,
    as_of: datetime | None = None,
    newest: int = 10,
    **options: Unpack[LookUpOptions],
) -> Explanation:
    """Look one feature up, and explain its value. ``options`` are those of the FeatureClient.

    Raises DefinitionError (no such feature, wrong join keys), and UnavailableError for a store that does not answer.
    """
    compiled = kernel(spec)
    if feature not in compiled.columns:
        message = f"view {spec.name!r} has no feature {feature!r}: it has {compiled.columns}"
        raise DefinitionError(message)
    column = compiled.columns.index(feature)
    window = compiled.windows[column % len(compiled.windows)]
    seen: Any = _RememberingStore(store)
    found = FeatureClient(seen, **options).get_views(spec.versioned_name, entity, as_of=as_of)
    tiles = _tiles(compiled, column, window, seen.answers[0], epoch_us(found.at))
    offsets = found.offsets()[spec.name]
    return Explanation(
        feature,
        spec.name,
        compiled.version,
        window.name,
        {name: entity.get(name) for name in spec.key_fields},
        found.at,
        found.to_lists()[0][column],
        found.statuses()[spec.name],
        offsets,
        tiles,
        _events(log, compiled, entity, tiles, offsets).tail(newest),
    )


class _RememberingStore:
    """A store that keeps its last answer, so that an explanation reads the same bytes as the value."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store
        self.answers: Sequence[StoredFields] = ()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def look_up(self, wanted: WantedKeys) -> Any:
        """Ask the store, and keep its answer."""
        found = self._store.look_up(wanted)
        self.answers = found
        return found


def _tiles(
    compiled: TileKernel, column: int, window: WindowTiles, answer: StoredFields, at_us: int
) -> list[ExplainedTile]:
    size, fields = window.size_us, answer.fields[0] if answer.fields else {}
    sources = sorted(fields)
    parts = [unpack(fields[source], compiled.layout)[1][window.resolution] for source in sources]
    rank = np.repeat(np.arange(len(parts)), np.array([len(part) for part in parts], np.int64))
    joined = compiled.join(parts)
    chosen = compiled.inside(window, joined, np.zeros(len(joined), np.int64), rank, np.array([at_us]))
    own = joined.take(chosen)
    values, there = compiled.finish(own, np.full(len(own), at_us))[column // len(compiled.windows)]
    found = zip(own["k"].tolist(), rank[chosen].tolist(), python_list(values), there.tolist(), strict=True)
    tiles = [
        ExplainedTile(sources[source], k * size, (k + 1) * size, value if known else None)
        for k, source, value, known in found
    ]
    return sorted(tiles, key=lambda tile: (tile.begin_us, tile.source))


def _events(
    log: EventLog,
    compiled: TileKernel,
    entity: Mapping[str, Any],
    tiles: Sequence[ExplainedTile],
    offsets: Mapping[str, int],
) -> pl.DataFrame:
    """Return the rows of the tiles, oldest first."""
    import polars as pl  # noqa: PLC0415 - look-ups need none of it

    from headrace.features.offline.entity_rows import entity_rows  # noqa: PLC0415

    if not tiles:
        return pl.DataFrame()
    span = min(tile.begin_us for tile in tiles), max(tile.end_us for tile in tiles)
    return entity_rows(log, compiled, entity, offsets, span).drop("__time")
