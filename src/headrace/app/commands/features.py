"""`headrace features`: lists features, and shows their values now, their values then, and how a value is made."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.app.terminal.options import DataDir, JsonOption, RedisUrl, moment, settings_from, with_zone
from headrace.app.terminal.tables import print_details, print_json, print_list, print_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from headrace.app.project.project import Project
    from headrace.app.project.settings import Settings
    from headrace.errors import FeaturesUnknownError
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.features.online.redis.redis_store import RedisOnlineStore
    from headrace.serving.explanation import Explanation

_LISTED = ("feature", "aggregate", "window", "entity", "source", "services", "version")
_LARGEST_HISTORY = 10_000
_PARSERS: dict[str, tuple[Callable[[str], Any], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": ({"true": True, "false": False}.__getitem__, "true or false"),
}
KeysArgument = Annotated[list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="The entity's join keys.")]
EntityArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE…", help="The entity's join keys and the values of the request.")
]
AsOf = Annotated[
    datetime | None,
    typer.Option(parser=moment, help="The time of the look-up (default: now). A time without a zone is UTC."),
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    features = typer.Typer(
        no_args_is_help=True, help="Features: list them, and show their values now, then, and how a value is made."
    )
    features.command("list")(list_features)
    features.command("get")(get)
    features.command("history")(history)
    features.command("explain")(explain)
    app.add_typer(features, name="features")


def list_features(*, json: JsonOption = False, data_dir: DataDir = None) -> None:
    """List the project's features: the aggregate, window, entity and source of each, and the services that serve it."""
    project = _project(settings_from(data_dir=data_dir))
    services = {
        name: [service.name for service in project.services.values() if view in service.views]
        for name, view in project.views.items()
    }
    rows = [
        row | {"services": ", ".join(services[name]) or None}
        for name, view in sorted(project.views.items())
        for row in _view_rows(view.spec)
    ] + [row for _, service in sorted(project.services.items()) for row in _on_demand_rows(service)]
    print_list(_LISTED, rows, json=json, if_empty="the project defines no features")


def get(
    features: Annotated[str, typer.Argument(metavar="SERVICE", help="A feature service or a view of the project.")],
    keys: EntityArgument = None,
    *,
    as_of: AsOf = None,
    json: JsonOption = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Look up the features of an entity, as an application does: value, status and age of each."""
    from headrace.app.processes.connections import client_options
    from headrace.errors import FeaturesUnknownError
    from headrace.serving.features import FeatureClient

    settings = settings_from(data_dir=data_dir, redis_url=redis_url)
    project = _project(settings)
    view, service = project.views.get(features), project.services.get(features)
    views = [view] if view is not None else list(project.views.values())
    with _store(settings) as store:
        if view is None and service is None and store.get_document(f"service:{features}") is None:
            raise _unknown(project, features)  # otherwise it is a service that another project has deployed
        client = FeatureClient(store, **client_options(settings))
        request = {} if service is None else {each.name: each.expression_kind for each in service.request_fields}
        entity, at = _entity(views, keys, request), None if as_of is None else with_zone(as_of)
        try:
            if view is not None and service is None:
                found = client.get_views(f"{view.name}@{view.version}", entity, as_of=at)
            else:
                found = client.get(features, entity, as_of=at)
        except FeaturesUnknownError as error:
            raise FeaturesUnknownError(
                f"the project has {features!r} as it is defined now, but the online store does not: start "
                "`headrace worker`; if one runs, see `headrace plan`, then `headrace apply`"
            ) from error
    values, statuses, ages = found.to_dicts()[0], found.statuses(), found.ages()
    rows = [
        {
            "feature": column,
            "value": values[column],
            "status": str(statuses[view.view]),
            "age": _age(ages[view.view]),
        }
        for view in found.views
        for column in view.columns
    ] + [{"feature": name, "value": values[name], "status": None, "age": None} for name in found.on_demand]
    if json:
        print_json({"at": found.at.isoformat(), "features": rows, "offsets": found.offsets()})
        return
    print_rows(("feature", "value", "status", "age"), rows)
    typer.echo(f"at {found.at.isoformat()}")


def _unknown(project: Project, name: str) -> FeaturesUnknownError:
    from headrace.errors import FeaturesUnknownError

    return FeaturesUnknownError(
        f"neither the project nor the online store has a feature service {name!r}, and the project has no such view; "
        f"it has the services {sorted(project.services) or 'none'} and the views {sorted(project.views) or 'none'}"
    )


def history(
    view: Annotated[str, typer.Argument(metavar="VIEW", help="A view of the project.")],
    keys: KeysArgument = None,
    *,
    begin: Annotated[
        datetime, typer.Option("--from", parser=moment, help="The first time. A time without a zone is UTC.")
    ],
    end: Annotated[datetime, typer.Option("--to", parser=moment, help="The last time.")],
    every: Annotated[str, typer.Option(help="The step between two times, such as 1h.")] = "1h",
    json: JsonOption = False,
    data_dir: DataDir = None,
) -> None:
    """Show the features of an entity over time, computed from the event log as a training set has them."""
    import numpy as np
    import polars as pl

    from headrace.base.times import duration_us, epoch_us
    from headrace.event_log.event_log import EventLog
    from headrace.features.offline.feature_history import FeatureHistory

    settings = settings_from(data_dir=data_dir)
    wanted = _view(_project(settings), view)
    times = np.arange(epoch_us(with_zone(begin)), epoch_us(with_zone(end)) + 1, duration_us(every))
    if not 0 < len(times) <= _LARGEST_HISTORY:
        raise typer.BadParameter(
            f"{len(times)} times from --from to --to: wanted 1 to {_LARGEST_HISTORY:,}; change --every"
        )
    entity = _entity([wanted], keys)
    found = FeatureHistory([wanted.spec], EventLog(settings.event_log, namespace=settings.namespace))
    found.refresh()
    values = found.features(pl.DataFrame([entity] * len(times)), times)
    rows = [{"time": _time(at), **row} for at, row in zip(times.tolist(), values.iter_rows(named=True), strict=True)]
    print_list(("time", *values.columns), rows, json=json, if_empty="no times")


def explain(
    feature: Annotated[
        str, typer.Argument(metavar="FEATURE", help="A feature's column, as `headrace features list` shows it.")
    ],
    keys: KeysArgument = None,
    *,
    as_of: AsOf = None,
    events: Annotated[int, typer.Option(min=0, help="The largest number of events to show.")] = 10,
    json: JsonOption = False,
    data_dir: DataDir = None,
    redis_url: RedisUrl = None,
) -> None:
    """Show how the value of a feature is made: its tiles, the newest events in them, offsets, the version."""
    from headrace.app.processes.connections import client_options
    from headrace.event_log.event_log import EventLog
    from headrace.features.definitions.expression_tree import NOW, columns
    from headrace.serving.explanation import explain as explained

    settings = settings_from(data_dir=data_dir, redis_url=redis_url)
    project = _project(settings)
    views = [view for view in project.views.values() if feature in view.spec.columns]
    for service in project.services.values():
        if feature in service.on_demand:
            raise typer.BadParameter(
                f"{feature!r} is an on-demand feature of the service {service.name!r}, computed from "
                f"{', '.join(sorted(columns(service.on_demand[feature].tree) - {NOW}))}: explain these features"
            )
    if not views:
        raise typer.BadParameter(f"the project has no feature {feature!r}: see `headrace features list`")
    with _store(settings) as store:
        found = explained(
            store,
            EventLog(settings.event_log, namespace=settings.namespace),
            views[0].spec,
            feature,
            _entity(views, keys),
            as_of=None if as_of is None else with_zone(as_of),
            newest=events,
            **client_options(settings),
        )
    if json:
        print_json(_details(found) | {"tiles": _tiles(found), "events": _events(found)})
        return
    print_details(_details(found))
    typer.echo(f"\ntiles: {len(found.tiles)}")
    print_rows(("from", "to", "partition", "value"), _tiles(found))
    typer.echo(f"\nnewest events in these tiles, from the event log: {found.events.height}")
    if found.events.height:
        print_rows(found.events.columns, _events(found))


# -- rows -------------------------------------------------------------------------------------------------------------


def _view_rows(spec: ViewSpec) -> list[dict[str, Any]]:
    from headrace.features.definitions.feature_spec import RowValueSpec

    names = iter(spec.columns)
    return [
        {
            "feature": next(names),
            "aggregate": feature.aggregate,
            "window": None if isinstance(feature, RowValueSpec) else window.name,
            "entity": ", ".join(spec.key_fields),
            "source": ", ".join(spec.topics),
            "version": spec.version,
        }
        for feature in spec.features
        for _ in feature.columns
        for window in spec.windows
    ]


def _on_demand_rows(service: FeatureService) -> list[dict[str, Any]]:
    """Return a row for each on-demand feature. ``source`` names the columns that it is computed from."""
    from headrace.features.definitions.expression_tree import NOW, columns

    return [
        {
            "feature": name,
            "aggregate": "on demand",
            "window": None,
            "entity": None,
            "source": ", ".join(sorted(columns(expression.tree) - {NOW})),
            "version": service.version,
            "services": service.name,
        }
        for name, expression in service.on_demand.items()
    ]


def _details(found: Explanation) -> dict[str, Any]:
    return {
        "feature": found.feature,
        "entity": dict(found.entity),
        "value": found.value,
        "status": str(found.status),
        "at": found.at.isoformat(),
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


def _age(age: timedelta | None) -> str | None:
    return None if age is None else f"{age.total_seconds():.1f} s"


def _time(at_us: int) -> str:
    from headrace.base.times import utc_datetime

    return utc_datetime(at_us).isoformat()


# -- arguments -------------------------------------------------------------------------------------------------------


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
    """Parse KEY=VALUE arguments: join keys by the types of the views, values of a request by their kinds."""
    types = dict(request or {}) | {key.name: key.kind for view in views for key in view.spec.entity.keys}
    entity: dict[str, Any] = {}
    for pair in given or ():
        name, is_pair, text = pair.partition("=")
        if not is_pair or name not in types:
            raise typer.BadParameter(
                f"{pair!r} is not a join key with its value: wanted {', '.join(f'{key}=…' for key in types)}"
            )
        entity[name] = _typed(name, types[name], text)
    return entity


def _typed(name: str, kind: str, text: str) -> Any:
    if kind.startswith("list("):
        return [_typed(name, kind[5:-1], part) for part in text.split(",") if part]
    if kind not in _PARSERS:
        return text
    read, wanted = _PARSERS[kind]
    try:
        return read(text)
    except (KeyError, ValueError):
        raise typer.BadParameter(f"{name}={text!r}: wanted {wanted}") from None


@contextmanager
def _store(settings: Settings) -> Iterator[RedisOnlineStore]:
    from headrace.app.processes.connections import redis_address
    from headrace.features.online.redis.redis_store import RedisOnlineStore

    store = RedisOnlineStore(redis_address(settings), settings.namespace)
    try:
        yield store
    finally:
        store.close()
