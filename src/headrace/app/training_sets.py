"""`headrace.training_set` and `headrace.rebuild`: training sets from a notebook, a script or the command line."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.app.processes.connections import kafka_for_command
from headrace.app.project.project import load_project
from headrace.app.project.settings_sources import load_settings
from headrace.app.terminal.progress import progress
from headrace.base.times import epoch_us, wall_clock
from headrace.errors import DefinitionError, ProjectError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.offline.spine import Spine
from headrace.trainers.data.exclusions import KafkaExclusions, excluded_spans
from headrace.trainers.data.rebuilt_rows import rows_of_manifest
from headrace.trainers.data.request_rows import RequestRows
from headrace.trainers.data.spine_rows import SpineRows
from headrace.trainers.data.training_set import TrainingSet, manifest_of
from headrace.trainers.definitions import Model

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.models.manifest import TimeSpan
    from headrace.models.training_manifest import TrainingManifest

FeatureSource = str | Model | FeatureService | FeatureView


def training_set(
    what: FeatureSource,
    spine: Any = None,
    *,
    time: str | None = None,
    as_of: datetime | None = None,
    excluded: Sequence[TimeSpan] | None = None,
    settings: Settings | None = None,
) -> TrainingSet:
    """Return the features of ``what`` as of the time of each row, computed from the event log.

    ``what`` is a model, a feature service or a view, or the name of one that the project has. ``spine`` has one row for
    each row of the result: a pandas, Polars or Arrow table, or the path of a Parquet file. It needs the join keys and a
    time column. The time column is ``time``, else the model's, else ``event_timestamp``, else the only column of times.
    Every row comes back, in order, with all columns of the spine. If ``what`` is a model and the spine has the column
    that the label joins on, the label is a column too. It is null if it is not known at ``as_of`` (default: now).

    Without a spine, the rows are the model's own requests that are matured and labelled at ``as_of``, as its trainer
    sees them. ``excluded`` are the spans of time to leave out (default: the spans that `headrace data exclude` marked).

    Nothing is computed before one of the ``to_…`` methods is called.

    Raises ProjectError, DefinitionError or TerminalError if something does not fit together.

    >>> from datetime import UTC, datetime
    >>> import headrace
    >>> import polars as pl
    >>> noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> flight = {"origin": "JFK", "dest": "LAX", "carrier": "B6", "scheduled_at": noon}
    >>> spine = pl.DataFrame({**flight, "requested_at": [noon]})
    >>> made = headrace.training_set("delay", spine)
    >>> made.feature_columns[0]
    'airport__departures_1h'
    >>> made.to_polars()["airport__departures_1h"].to_list()  # one number for each row; no flight has left yet
    [0]
    """
    settings = settings or load_settings({})
    definition = _resolve(what, settings, has_spine=spine is not None)
    log, as_of_us = (
        EventLog(settings.event_log, namespace=settings.namespace),
        wall_clock() if as_of is None else _instant(as_of),
    )
    model = definition if isinstance(definition, Model) else None
    if spine is not None:
        features = definition if isinstance(definition, FeatureService) else definition.features
        given = Spine.from_table(spine)
        column = given.time(time, None if model is None else model.requested_at)
        return TrainingSet(SpineRows(features, log, given, column, as_of_us, model), _bar())
    if model is None:
        message = f"{definition.name!r} is a feature service: it has no rows of its own; give a spine of rows"
        raise DefinitionError(message)
    spans_out = _excluded(settings, model.name) if excluded is None else excluded
    return TrainingSet(RequestRows(model, log, as_of_us, spans_out), _bar())


def rebuild(made: str | Path | TrainingManifest, spine: Any = None, *, settings: Settings | None = None) -> TrainingSet:
    """Return the training set that a manifest describes: the same rows and values as when it was made.

    Events that arrived since then change nothing, and neither do compaction and vacuum. ``made`` is a manifest, or a
    Parquet file that :meth:`TrainingSet.to_parquet` wrote: such a file contains its spine. Raises TerminalError if the
    definitions or the spine have changed.

    >>> from datetime import UTC, datetime
    >>> import headrace
    >>> import polars as pl
    >>> noon = datetime(2013, 1, 1, 12, tzinfo=UTC)
    >>> flight = {"origin": "JFK", "dest": "LAX", "carrier": "B6", "scheduled_at": noon}
    >>> spine = pl.DataFrame({**flight, "at": [noon]})
    >>> made = headrace.training_set("delay", spine, time="at")
    >>> first = made.to_polars()
    >>> headrace.rebuild(made.manifest, spine).to_polars().equals(first)
    True
    """
    settings = settings or load_settings({})
    manifest = manifest_of(made) if isinstance(made, str | Path) else made
    if spine is None and isinstance(made, str | Path) and manifest.rows_from == "spine":
        spine = made
    project = load_project(settings)
    definition = project.model(manifest.name) if manifest.of == "model" else _service(project, manifest.name)
    given = None if spine is None else Spine.from_table(spine)
    rows = rows_of_manifest(manifest, definition, settings.event_log, given, namespace=settings.namespace)
    return TrainingSet(rows, _bar())


def _resolve(what: FeatureSource, settings: Settings, *, has_spine: bool) -> Model | FeatureService:
    if isinstance(what, FeatureView):
        return FeatureService(what.name, [what])
    if not isinstance(what, str):
        return what
    project = load_project(settings)
    if what in project.models or not has_spine:
        return project.model(what)
    return _service(project, what)


def _service(project: Project, name: str) -> FeatureService:
    if name in project.services:
        return project.services[name]
    if name in project.views:
        return FeatureService(name, [project.views[name]])
    raise ProjectError(
        f"the project has no model, feature service or view {name!r}; it has the services "
        f"{sorted(project.services) or 'none'}, the models {sorted(project.models) or 'none'}"
    )


def _excluded(settings: Settings, model: str) -> list[TimeSpan]:
    with kafka_for_command(settings) as servers, closing(KafkaExclusions(servers, settings.topics.exclusions)) as log:
        return list(excluded_spans(log.in_force().values(), model))


def _instant(moment: datetime) -> int:
    if moment.tzinfo is None:
        message = f"as_of={moment!r} has no time zone: give one, such as datetime(2026, 1, 31, tzinfo=UTC)"
        raise DefinitionError(message)
    return epoch_us(moment)


def _bar() -> Any:
    """Return the progress bar on a terminal, and None elsewhere: a script prints only its own output."""
    return progress if sys.stderr.isatty() else None
