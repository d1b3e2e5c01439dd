"""`headrace.training_set`: features for rows of one's own, or a model's own rows, from a notebook or a script."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.app.processes.broker import kafka
from headrace.app.project.project import load_project
from headrace.app.project.settings_sources import load_settings
from headrace.app.terminal.progress import progress
from headrace.base.times import epoch_us, wall_clock
from headrace.errors import DefinitionError, ProjectError
from headrace.event_log.event_log import EventLog
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.offline.spine import Spine
from headrace.trainers.data.exclusions import KafkaExclusions, spans
from headrace.trainers.data.rows import RequestRows, SpineRows, rows_again
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
    """The features of ``what`` as of each row's time, from the event log; worked out when a form of it is asked for.

    ``what`` is a model, a feature service or a view, or the name of a model or service of the project. ``spine`` is a
    pandas, Polars or Arrow table or the path of a Parquet file, with the join keys and a time column: ``time``, else
    the model's, else ``event_timestamp``, else the only one there is. Every row comes back, in order, with all columns
    of the spine. With a model its label comes too, where the spine has the column that it joins on; it is null where it
    is not known at ``as_of`` (default: now).

    Without a spine the rows are the model's own requests: those that are matured and labelled at ``as_of``, as its
    trainer sees them. ``excluded`` are spans to leave out; by default those that are excluded on the bus.

    Raises ProjectError, DefinitionError or TerminalError where something does not fit, and says what.
    """
    settings = settings or load_settings({})
    definition = _resolve(what, settings, has_spine=spine is not None)
    log, as_of_us = EventLog(settings.event_log), wall_clock() if as_of is None else _instant(as_of)
    model = definition if isinstance(definition, Model) else None
    if spine is not None:
        features = definition if isinstance(definition, FeatureService) else definition.features
        given = Spine.of(spine)
        column = given.time(time, None if model is None else model.requested_at)
        return TrainingSet(SpineRows(features, log, given, column, as_of_us, model), _bar())
    if model is None:
        message = f"{definition.name!r} is a feature service: it has no rows of its own; give a spine of rows"
        raise DefinitionError(message)
    spans_out = _excluded(settings, model.name) if excluded is None else excluded
    return TrainingSet(RequestRows(model, log, as_of_us, spans_out), _bar())


def rebuild(made: str | Path | TrainingManifest, spine: Any = None, *, settings: Settings | None = None) -> TrainingSet:
    """The training set of a manifest once more: the same content, whatever came, was compacted or vacuumed since.

    ``made`` is a manifest, or a Parquet file that :meth:`TrainingSet.to_parquet` wrote, which has its spine within.
    Raises TerminalError where the definitions are others by now, or the spine is another one.
    """
    settings = settings or load_settings({})
    manifest = manifest_of(made) if isinstance(made, str | Path) else made
    if spine is None and isinstance(made, str | Path) and manifest.rows_from == "spine":
        spine = made
    project = load_project(settings)
    definition = project.model(manifest.name) if manifest.of == "model" else _service(project, manifest.name)
    given = None if spine is None else Spine.of(spine)
    return TrainingSet(rows_again(manifest, definition, settings.event_log, given), _bar())


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
    with kafka(settings) as servers, closing(KafkaExclusions(servers)) as log:
        return list(spans(log.in_force().values(), model))


def _instant(moment: datetime) -> int:
    if moment.tzinfo is None:
        message = f"as_of={moment!r} has no time zone: give one, such as datetime(2026, 1, 31, tzinfo=UTC)"
        raise DefinitionError(message)
    return epoch_us(moment)


def _bar() -> Any:
    """A bar on a terminal, and nothing elsewhere: a script's output is its own."""
    return progress if sys.stderr.isatty() else None
