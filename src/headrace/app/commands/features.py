"""`headrace features`: which there are, what they are now, what they were, and why."""

from __future__ import annotations

import json as codec
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import MOMENT_FORMS, DataDir, JsonOption, RedisUrl, settings_from, zoned
from headrace.app.terminal.tables import print_details, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.features.definitions.service import FeatureService
    from headrace.features.online.redis.redis_store import RedisOnlineStore
    from headrace.serving.explanation import Explanation

_LISTED = ("feature", "aggregate", "window", "entity", "source", "services", "version")
_MOST = 10_000
_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": ({"true": True, "false": False}.__getitem__, "true or false"),
}
KeysArgument = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="The entity's join keys.")]
EntityArguments = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="The entity's join keys, and the request's values.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(formats=MOMENT_FORMS, help="The time to ask for; without a zone it is UTC. Default: now."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    features = typer.Typer(no_args_is_help=True, help="Features: which there are, their values now and then, and why.")
    features.command("list")(list_features)
    features.command("get")(get)
    features.command("history")(history)
    features.command("explain")(explain)
    app.add_typer(features, name="features")


def list_features(*, json: JsonOption = False, data_dir: DataDir = None) -> None:
    """List the project's features: what each is made of, and the services that serve it."""
    project = _project(settings_from(data_dir=data_dir))
    services = {
        name: [service.name for service in project.services.values() if view in service.views]
        for name, view in project.views.items()
    }
    rows = [
        row | {"services": ", ".join(services[name]) or None}
        for name, view in sorted(project.views.items())
        for row in _described(view.spec, view.version)
    ] + [row for _, service in sorted(project.services.items()) for row in _made_on_demand(service)]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    elif rows:
        print_rows(_LISTED, rows)
    else:
        typer.echo("the project defines no features")


def get(
    features: Annotated[str, typer.Argument(metavar="SERVICE", help="A feature service, or one view of the project.")],
    keys: EntityArguments = None,
    *,
    as_of: AsOf = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Look an entity's features up, as an application would: values, status, age."""
    from headrace.app.processes.connections import client_options
    from headrace.serving.features import FeatureClient

    settings = settings_from(data_dir=data_dir, redis_url=redis_url)
    project = _project(settings)
    view, service = project.views.get(features), project.services.get(features)
    asked = [f"{view.name}@{view.version}"] if view is not None and service is None else features
    views = [view] if view is not None else list(project.views.values())
    with _store(settings) as store:
        client = FeatureClient(store, **client_options(settings))
        request = {} if service is None else {each["name"]: each["kind"] for each in service.request_fields}
        found = client.get(asked, _entity(views, keys, request), as_of_us=_micros(as_of))
    values, statuses, ages_us = found.to_dicts()[0], found.statuses(), found.ages_us()
    rows = [
        {
            "feature": column,
            "value": values[column],
            "status": str(statuses[view.view]),
            "age": _age(ages_us[view.view]),
        }
        for view in found.views
        for column in view.columns
    ] + [{"feature": name, "value": values[name], "status": None, "age": None} for name in found.on_demand]
    if json:
        typer.echo(codec.dumps({"at": _time(found.at_us), "features": rows, "offsets": found.offsets()}, indent=2))
        return
    print_rows(("feature", "value", "status", "age"), rows)
    typer.echo(f"at {_time(found.at_us)}")


def history(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A view of the project.")],
    keys: KeysArgument = None,
    *,
    begin: Annotated[
        datetime, typer.Option("--from", formats=MOMENT_FORMS, help="The first time; without a zone UTC.")
    ],
    end: Annotated[datetime, typer.Option("--to", formats=MOMENT_FORMS, help="The last time.")],
    every: Annotated[str, typer.Option(help="How far the times are apart, such as 1h.")] = "1h",
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Show an entity's features over time, worked out from the event log as a training set would have them."""
    import numpy as np
    import polars as pl

    from headrace.base.times import duration_us, epoch_us
    from headrace.event_log.event_log import EventLog
    from headrace.features.offline.feature_history import FeatureHistory

    settings = settings_from(data_dir=data_dir)
    wanted = _view(_project(settings), view)
    times = np.arange(epoch_us(zoned(begin)), epoch_us(zoned(end)) + 1, duration_us(every))
    if not 0 < len(times) <= _MOST:
        raise typer.BadParameter(f"{len(times)} times from --from to --to: wanted 1 to {_MOST:,}; change --every")
    entity = _entity([wanted], keys)
    found = FeatureHistory([wanted.spec], EventLog(settings.event_log))
    found.refresh()
    values = found.features(pl.DataFrame([entity] * len(times)), times)
    rows = [{"time": _time(at), **row} for at, row in zip(times.tolist(), values.iter_rows(named=True), strict=True)]
    if json:
        typer.echo(codec.dumps(rows, indent=2))
    else:
        print_rows(("time", *values.columns), rows)


def explain(
    feature: Annotated[
        str, typer.Argument(metavar="FEATURE", help="A feature's column, as `headrace features list` shows it.")
    ],
    keys: KeysArgument = None,
    *,
    as_of: AsOf = None,
    events: Annotated[int, typer.Option(min=0, help="Most events to show.")] = 10,
    json: JsonOption = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show why a feature has its value: its tiles, the newest events in them, offsets, definition version."""
    from headrace.app.processes.connections import client_options
    from headrace.event_log.event_log import EventLog
    from headrace.features.definitions.expression import columns
    from headrace.features.definitions.spec import column_names
    from headrace.serving.explanation import explain as explained

    settings = settings_from(data_dir=data_dir, redis_url=redis_url)
    project = _project(settings)
    of = [view for view in project.views.values() if feature in column_names(view.spec)]
    for service in project.services.values():
        if feature in service.on_demand:
            raise typer.BadParameter(
                f"{feature!r} is made by service {service.name!r} when it is asked for, of "
                f"{', '.join(sorted(columns(service.on_demand[feature].tree)))}: explain what it is made of"
            )
    if not of:
        raise typer.BadParameter(f"the project has no feature {feature!r}: see `headrace features list`")
    with _store(settings) as store:
        found = explained(
            store,
            EventLog(settings.event_log),
            of[0].spec,
            feature,
            _entity(of, keys),
            as_of_us=_micros(as_of),
            newest=events,
            **client_options(settings),
        )
    if json:
        typer.echo(codec.dumps(_told(found) | {"tiles": _tiles(found), "events": _events(found)}, indent=2))
        return
    print_details(_told(found))
    typer.echo(f"\n{len(found.tiles)} tiles")
    print_rows(("from", "to", "partition", "value"), _tiles(found))
    typer.echo(f"\nthe newest {found.events.height} events in them, as the event log has them")
    if found.events.height:
        print_rows(found.events.columns, _events(found))


# -- words ------------------------------------------------------------------------------------------------------------


def _described(spec: Mapping[str, Any], version: str) -> list[dict[str, Any]]:
    from headrace.features.definitions.spec import column_names, feature_columns

    names = iter(column_names(spec))
    return [
        {
            "feature": next(names),
            "aggregate": feature["aggregate"],
            "window": window["name"],
            "entity": ", ".join(name for name, _ in spec["entity"]["keys"]),
            "source": spec["source"]["topic"],
            "version": version,
        }
        for feature in spec["features"]
        for _ in feature_columns(feature)
        for window in spec["windows"]
    ]


def _made_on_demand(service: FeatureService) -> list[dict[str, Any]]:
    """``source``: what a feature is made of."""
    from headrace.features.definitions.expression import columns

    return [
        {
            "feature": name,
            "aggregate": "on demand",
            "window": None,
            "entity": None,
            "source": ", ".join(sorted(columns(expression.tree))),
            "version": service.version,
            "services": service.name,
        }
        for name, expression in service.on_demand.items()
    ]


def _told(found: Explanation) -> dict[str, Any]:
    return {
        "feature": found.feature,
        "entity": dict(found.entity),
        "value": found.value,
        "status": str(found.status),
        "at": _time(found.at_us),
        "view": f"{found.view}@{found.version}",
        "window": found.window,
        "offsets": dict(found.offsets),
    }


def _tiles(found: Explanation) -> list[dict[str, Any]]:
    return [
        {"from": _time(t.begin_us), "to": _time(t.end_us), "partition": t.source.partition, "value": t.value}
        for t in found.tiles
    ]


def _events(found: Explanation) -> list[dict[str, Any]]:
    rows = found.events.iter_rows(named=True)
    return [{k: v.isoformat() if isinstance(v, datetime) else v for k, v in row.items()} for row in rows]


def _age(duration_us: int | None) -> str | None:
    return None if duration_us is None else f"{duration_us / 1e6:.1f} s"


def _time(at_us: int) -> str:
    from headrace.base.times import utc_datetime

    return utc_datetime(at_us).isoformat()


# -- what was given ---------------------------------------------------------------------------------------------------


def _project(settings: Settings) -> Project:
    from headrace.app.project.project import load_project

    return load_project(settings)


def _view(project: Project, name: str) -> Any:
    if name not in project.views:
        raise typer.BadParameter(f"the project has no view {name!r}: it has {sorted(project.views)}")
    return project.views[name]


def _entity(
    views: Sequence[Any], given: Sequence[str] | None, request: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The join keys, typed as the views have them, and values of a request by their kinds."""
    types = dict(request or {}) | {name: kind for view in views for name, kind in view.spec["entity"]["keys"]}
    entity: dict[str, Any] = {}
    for pair in given or ():
        name, is_pair, text = pair.partition("=")
        if not is_pair or name not in types:
            raise typer.BadParameter(
                f"{pair!r} is not what is asked by: wanted {', '.join(f'{key}=…' for key in types)}"
            )
        entity[name] = _typed(name, types[name], text)
    return entity


def _typed(name: str, kind: str, text: str) -> Any:
    if kind not in _READ:
        return text
    read, wanted = _READ[kind]
    try:
        return read(text)
    except (KeyError, ValueError):
        raise typer.BadParameter(f"{name}={text!r}: wanted {wanted}") from None


def _micros(utc_datetime: datetime | None) -> int | None:
    from headrace.base.times import epoch_us

    return None if utc_datetime is None else epoch_us(zoned(utc_datetime))


@contextmanager
def _store(settings: Settings) -> Iterator[RedisOnlineStore]:
    from headrace.app.processes.connections import redis_address
    from headrace.features.online.redis.redis_store import RedisOnlineStore

    store = RedisOnlineStore(redis_address(settings), settings.namespace)
    try:
        yield store
    finally:
        store.close()
