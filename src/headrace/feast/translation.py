"""Definitions as Feast's objects: entities, feature views and feature services."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import feast

from headrace.errors import DefinitionError
from headrace.feast.on_demand import on_demand_view
from headrace.feast.source import TYPES, HeadraceSource
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.spec import spec_hash
from headrace.features.definitions.view import FeatureView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    ViewSpecs = Mapping[str, Any]

KIND, TILED, ON_DEMAND, SERVICE = "headrace.kind", "tiled", "on-demand", "service"
"""The tag on what was made from definitions, and its values."""


def objects(*definitions: FeatureView | FeatureService) -> dict[str, Any]:
    """The Feast objects of views and services by a name for each, such as ``view_shop``.

    For a repository of Feast, whose objects are the attributes of its modules: ``globals().update(objects(service))``.
    Services bring their views along. Raises DefinitionError where Feast cannot say it.
    """
    services = [one for one in definitions if isinstance(one, FeatureService)]
    views = [one for one in definitions if isinstance(one, FeatureView)]
    views += [view for service in services for view in service.views]
    specs = list({view.name: view.spec for view in views}.values())
    return feast_objects(specs, [service.spec for service in services])


def feast_objects(views: Sequence[ViewSpecs], services: Sequence[ViewSpecs]) -> dict[str, Any]:
    """The same of compiled specs; the views of the services are among ``views``."""
    entities = _entities(views)
    made = {spec["view"]: _view(spec, entities) for spec in views}
    found = {f"entity_{name}": entity for name, entity in entities.items()}
    found |= {f"view_{name}": view for name, view in made.items()}
    for spec in services:
        features = [made[name] for name, _ in spec["views"]]
        if "on_demand" in spec:
            view = on_demand_view(spec, made, {KIND: ON_DEMAND})
            if f"view_{view.name}" in found:
                raise DefinitionError(
                    f"view {view.name!r} has the name of what Feast's registry has the on-demand features of service "
                    f"{spec['service']!r} as: rename one of the two"
                )
            found[f"view_{view.name}"] = view
            features.append(view)
        found[f"service_{spec['service']}"] = feast.FeatureService(
            name=spec["service"], features=features, tags={KIND: SERVICE, "headrace.version": spec_hash(spec)}
        )
    return found


def _entities(views: Sequence[ViewSpecs]) -> dict[str, Any]:
    """One of Feast's entities a join key, named like it: Feast's have a single key each."""
    kinds: dict[str, tuple[str, str]] = {}
    for spec in views:
        for key, kind in spec["entity"]["keys"]:
            other = kinds.setdefault(key, (kind, spec["view"]))
            if other[0] != kind:
                raise DefinitionError(
                    f"join key {key!r} is {other[0]} in view {other[1]!r} and {kind} in view {spec['view']!r}; in "
                    "Feast a join key has one type: name one of the two fields otherwise"
                )
    types = {"str": feast.ValueType.STRING, "int": feast.ValueType.INT64}
    return {key: feast.Entity(name=key, join_keys=[key], value_type=types[kind]) for key, (kind, _) in kinds.items()}


def _view(spec: ViewSpecs, entities: Mapping[str, Any]) -> Any:
    keys = spec["entity"]["keys"]
    source = HeadraceSource(spec, description=f"The event log of {spec['source']['topic']}")
    fields = [*keys, *source.kinds.items()]
    max_age_us = spec["max_age_us"]
    return feast.FeatureView(
        name=spec["view"],
        entities=[entities[key] for key, _ in keys],
        schema=[feast.Field(name=name, dtype=TYPES[kind]) for name, kind in fields],
        source=source,
        ttl=None if max_age_us is None else timedelta(microseconds=max_age_us),
        description=_described(spec),
        tags={KIND: TILED, "headrace.version": spec_hash(spec), "headrace.topic": spec["source"]["topic"]},
    )


def _described(spec: ViewSpecs) -> str:
    features = ", ".join(f"{feature['name']} ({feature['aggregate']})" for feature in spec["features"])
    windows = ", ".join(window["name"] for window in spec["windows"])
    return f"{features} over {windows} of {spec['source']['topic']}"
