"""Definitions as Feast's objects: entities, feature views and feature services."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import feast

from headrace.errors import DefinitionError
from headrace.feast.on_demand import on_demand_view
from headrace.feast.source import TYPES, HeadraceSource
from headrace.features.definitions.expression_kinds import as_list
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.view import FeatureView
from headrace.features.kernel.on_demand import on_demand

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.service_spec import ServiceSpec
    from headrace.features.definitions.view_spec import ViewSpec

KIND, TILED, ON_DEMAND, SERVICE = "headrace.kind", "tiled", "on-demand", "service"
"""The tag on objects that were made from definitions, and its values."""


def objects(*definitions: FeatureView | FeatureService) -> dict[str, Any]:
    """Return the Feast objects of views and services, each under a name such as ``view_shop``.

    In a repository of Feast the objects are the attributes of its modules: ``globals().update(objects(service))``. The
    views of a service are included. Raises DefinitionError for a definition that Feast cannot express.
    """
    services = [one for one in definitions if isinstance(one, FeatureService)]
    views = [one for one in definitions if isinstance(one, FeatureView)]
    views += [view for service in services for view in service.views]
    specs = list({view.name: view.spec for view in views}.values())
    return feast_objects(specs, [service.spec for service in services])


def feast_objects(views: Sequence[ViewSpec], services: Sequence[ServiceSpec]) -> dict[str, Any]:
    """Return the Feast objects of compiled specs. The views of the services are among ``views``."""
    entities = _entities(views)
    made = {spec.name: _view(spec, entities) for spec in views}
    found = {f"entity_{name}": entity for name, entity in entities.items()}
    found |= {f"view_{name}": view for name, view in made.items()}
    for service in services:
        features = [made[view.name] for view in service.views]
        if service.made.features and not on_demand(service.on_demand).reads_now:  # Feast knows no time of a look-up
            view = on_demand_view(service, made, {KIND: ON_DEMAND})
            if f"view_{view.name}" in found:
                raise DefinitionError(
                    f"view {view.name!r} has the name of the view that Feast's registry keeps for the on-demand "
                    f"features of service {service.name!r}: rename one of the two"
                )
            found[f"view_{view.name}"] = view
            features.append(view)
        found[f"service_{service.name}"] = feast.FeatureService(
            name=service.name, features=features, tags={KIND: SERVICE, "headrace.version": service.version}
        )
    return found


def _entities(views: Sequence[ViewSpec]) -> dict[str, Any]:
    """One of Feast's entities for each join key, with its name: an entity of Feast has a single key."""
    kinds: dict[str, tuple[str, str]] = {}
    for spec in views:
        for key, kind in _keys(spec).items():
            other = kinds.setdefault(key, (kind, spec.name))
            if other[0] != kind:
                raise DefinitionError(
                    f"join key {key!r} is {other[0]} in view {other[1]!r} and {kind} in view {spec.name!r}; in "
                    "Feast a join key has one type: rename one of the two fields"
                )
    types = {"str": feast.ValueType.STRING, "int": feast.ValueType.INT64}
    return {key: feast.Entity(name=key, join_keys=[key], value_type=types[kind]) for key, (kind, _) in kinds.items()}


def _keys(spec: ViewSpec) -> Mapping[str, str]:
    """The join keys that Feast is told of, by name and kind. Where a view has none, Feast sets in its own."""
    return {} if spec.entity.is_global else spec.entity.key_kinds


def _view(spec: ViewSpec, entities: Mapping[str, Any]) -> Any:
    source = HeadraceSource(spec, description=f"The event log of {', '.join(spec.topics)}")
    keys = _keys(spec)
    kinds = [*keys.items(), *source.kinds.items()]
    return feast.FeatureView(
        name=spec.name,
        entities=[entities[key] for key in keys],
        schema=[feast.Field(name=name, dtype=TYPES[as_list(kind)]) for name, kind in kinds],
        source=source,
        ttl=None if spec.max_age_us is None else timedelta(microseconds=spec.max_age_us),
        description=_described(spec),
        tags={KIND: TILED, "headrace.version": spec.version, "headrace.topic": ",".join(spec.topics)},
    )


def _described(spec: ViewSpec) -> str:
    features = ", ".join(f"{feature.name} ({feature.aggregate})" for feature in spec.features)
    windows = ", ".join(window.name for window in spec.windows)
    return f"{features} over {windows} of {', '.join(spec.topics)}"
