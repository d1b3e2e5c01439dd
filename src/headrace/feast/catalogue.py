"""Keeps a registry of Feast equal to the definitions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import feast

from headrace.errors import DefinitionError
from headrace.feast.source import tiled
from headrace.feast.translation import KIND, ON_DEMAND, SERVICE, feast_objects

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.service_spec import ServiceSpec
    from headrace.features.definitions.view_spec import ViewSpec


class Catalogue:
    """The registry that the feature_store.yaml of a folder names, of any kind that Feast supports.

    Objects that were made from definitions are added, changed and removed with them. Other objects stay unchanged.
    """

    def __init__(self, folder: str | Path) -> None:
        self._store = feast.FeatureStore(repo_path=str(folder))

    def keep(self, views: Sequence[ViewSpec], services: Sequence[ServiceSpec]) -> list[str]:
        """Make the registry equal to these views and services. Returns one line for each change.

        Raises DefinitionError if the registry has another object with one of the names.
        """
        wanted = feast_objects(views, services)
        known = self._known()
        self._refuse_others(wanted)
        gone = {name: found for name, found in known.items() if name not in wanted}
        new = {
            name: made
            for name, made in wanted.items()
            if name.startswith(("view_", "service_")) and (name not in known or known[name].tags != made.tags)
        }
        if new or gone:
            sources = [source for found in gone.values() for source in _sources(found)]
            entities = {f"entity_{name}": entity for name, entity in self._entities().items()}
            objects = [
                entities.get(name, made) for name, made in wanted.items() if name in new or name.startswith("entity_")
            ]
            self._store.apply(objects, objects_to_delete=[*gone.values(), *sources], partial=False)
        return [f"{_title(name)} {'changed' if name in known else 'added'}" for name in new] + [
            f"{_title(name)} removed" for name in gone
        ]

    def _known(self) -> dict[str, Any]:
        """The objects that were made from definitions before, by name."""
        views = {f"view_{view.name}": view for view in self._store.list_all_feature_views() if _is_made(view)}
        services = self._store.list_feature_services()
        return views | {f"service_{one.name}": one for one in services if one.tags.get(KIND) == SERVICE}

    def _entities(self) -> dict[str, Any]:
        return {entity.name: entity for entity in self._store.list_entities()}

    def _refuse_others(self, wanted: Mapping[str, Any]) -> None:
        """Raise DefinitionError if a view, service or entity that was not made from definitions has a wanted name."""
        others: dict[str, str] = {
            f"view_{view.name}": "a feature view" for view in self._store.list_all_feature_views() if not _is_made(view)
        }
        services = self._store.list_feature_services()
        others |= {f"service_{one.name}": "a service" for one in services if one.tags.get(KIND) != SERVICE}
        for name, entity in self._entities().items():
            made = wanted.get(f"entity_{name}")
            if made is not None and (entity.join_key, entity.value_type) != (made.join_key, made.value_type):
                others[f"entity_{name}"] = f"an entity with join key {entity.join_key!r} of {entity.value_type.name}"
        for name in sorted(others.keys() & wanted.keys()):
            raise DefinitionError(
                f"{_title(name)}: Feast's registry has {others[name]} of that name that was not made from headrace's "
                "definitions: rename one of the two"
            )


def _is_made(view: Any) -> bool:
    """Return whether a view of Feast was made from definitions."""
    return tiled(view) is not None or view.tags.get(KIND) == ON_DEMAND


def _sources(found: Any) -> list[Any]:
    """Return the data sources that belong to a view: no other view uses them."""
    source = tiled(found)
    return [source] if source else [*getattr(found, "source_request_sources", {}).values()]


def _title(name: str) -> str:
    """Return the words of a name, such as ``view shop`` for ``view_shop``."""
    return name.replace("_", " ", 1)
