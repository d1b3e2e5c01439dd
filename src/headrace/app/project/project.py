"""Loads a project: imports the modules that headrace.toml names, and collects the definitions in them."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from headrace.bus.control_topics import EVENT_LOGS, REPLAYS
from headrace.errors import DefinitionError, HeadraceError, ProjectError
from headrace.models.predictions import predictions_of, vectors_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import ModuleType

    from headrace.app.project.settings import Settings
    from headrace.bus.stream import Stream
    from headrace.features.definitions.entity import Entity
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.view import FeatureView
    from headrace.streams.processors.processor import Processor
    from headrace.trainers.definitions import Model


@dataclass(frozen=True)
class Project:
    """All definitions of a project, by name.

    >>> from headrace import load_project, load_settings
    >>> project = load_project(load_settings())
    >>> project.views["airport"].entity.name
    'origin'
    """

    streams: Mapping[str, Stream] = field(default_factory=lambda: MappingProxyType({}))
    entities: Mapping[str, Entity] = field(default_factory=lambda: MappingProxyType({}))
    views: Mapping[str, FeatureView] = field(default_factory=lambda: MappingProxyType({}))
    services: Mapping[str, FeatureService] = field(default_factory=lambda: MappingProxyType({}))
    models: Mapping[str, Model] = field(default_factory=lambda: MappingProxyType({}))
    processors: Mapping[str, Processor] = field(default_factory=lambda: MappingProxyType({}))

    def model(self, name: str) -> Model:
        """Return the model of this name. Raises ProjectError, which lists the models, if there is none."""
        if name not in self.models:
            raise ProjectError(f"the project has no model {name!r}; it has {sorted(self.models) or 'none'}")
        return self.models[name]


def load_project(settings: Settings) -> Project:
    """Import the modules that the settings name and collect the definitions in them and in their submodules.

    An object that several modules import counts once. Raises DefinitionError if two different objects of a kind have
    the same name, or if a stream has the name of a control topic. Raises ProjectError if a module does not exist, is
    shadowed by another one, or fails to import.

    >>> from headrace import load_project, load_settings
    >>> project = load_project(load_settings())
    >>> sorted(project.models), sorted(project.services)
    (['delay'], ['delay'])
    """
    with_root = str(settings.root)
    if with_root not in sys.path:
        sys.path.insert(0, with_root)
    modules = [module for name in settings.project.modules for module in _tree(_import(name, settings.root))]
    found = collect(modules)
    _check_topics(found, settings)
    return found


def _check_topics(found: Project, settings: Settings) -> None:
    names = {*settings.topics.all, EVENT_LOGS, REPLAYS}
    own = [vectors_of(settings.namespace), predictions_of(settings.namespace)]  # a project may import these
    taken = [topic for topic, stream in found.streams.items() if topic in names and stream not in own]
    if taken:
        message = (
            f"stream {taken[0]!r} has the name of a topic by which the processes of namespace {settings.namespace!r} "
            "talk to each other: give the stream another topic, or the project another namespace"
        )
        raise DefinitionError(message)


def collect(modules: Iterable[ModuleType]) -> Project:
    """Collect the definitions among the attributes of `modules`."""
    kinds = _kinds()
    found: dict[str, dict[str, Any]] = {kind: {} for kind, _, _ in kinds}
    places: dict[tuple[str, str], str] = {}
    for module in modules:
        for attribute, value in vars(module).items():
            for kind, cls, naming in kinds:
                if isinstance(value, cls):
                    _add(found[kind], places, kind, getattr(value, naming), value, f"{module.__name__}.{attribute}")
    _add_enriched(found, places)
    for name, processor in found["processors"].items():  # its streams may have no name in a module
        for stream in (processor.source, *processor.into):
            _add(found["streams"], places, "streams", stream.topic, stream, places["processors", name])
    return Project(**{kind: MappingProxyType(objects) for kind, objects in found.items()})


def _add_enriched(found: dict[str, dict[str, Any]], places: dict[tuple[str, str], str]) -> None:
    """Add the processors that write enriched streams, and the streams and views that these are made from."""
    from headrace.streams.processors.enriched_stream import EnrichedStream

    ahead = [stream for stream in found["streams"].values() if isinstance(stream, EnrichedStream)]
    while ahead:
        stream = ahead.pop()
        place = places["streams", stream.topic]
        _add(found["processors"], places, "processors", stream.processor.name, stream.processor, place)
        origin = stream.enrichment.origin
        if isinstance(origin, EnrichedStream) and origin.topic not in found["streams"]:
            ahead.append(origin)
        _add(found["streams"], places, "streams", origin.topic, origin, place)


def _add(  # noqa: PLR0917 - one call site
    objects: dict[str, Any], places: dict[tuple[str, str], str], kind: str, name: str, value: object, place: str
) -> None:
    if name in objects and objects[name] is not value:
        raise DefinitionError(
            f"{place} and {places[kind, name]} are two different {kind} of the name {name!r}; a name is used once: "
            "rename one of them, or import the other instead of defining it again"
        )
    objects.setdefault(name, value)
    places.setdefault((kind, name), place)


def _kinds() -> list[tuple[str, type, str]]:
    from headrace.bus.stream import Stream  # imported with the project, not with the CLI
    from headrace.features.definitions.entity import Entity
    from headrace.features.definitions.service import FeatureService
    from headrace.features.definitions.view import FeatureView
    from headrace.streams.processors.processor import Processor
    from headrace.trainers.definitions import Model

    return [
        ("streams", Stream, "topic"),
        ("entities", Entity, "name"),
        ("views", FeatureView, "name"),
        ("services", FeatureService, "name"),
        ("models", Model, "name"),
        ("processors", Processor, "name"),
    ]


def _import(name: str, root: Path) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except HeadraceError:
        raise
    except ModuleNotFoundError as error:
        raise ProjectError(_absent(name, root, error)) from error
    except Exception as error:
        raise ProjectError(f"the project's module {name!r} does not import: {type(error).__name__}: {error}") from error
    _refuse_shadow(module, root)
    return module


def _absent(name: str, root: Path, error: ModuleNotFoundError) -> str:
    if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
        place = name.replace(".", "/")
        if not (root / "headrace.toml").exists():
            return f"there is no headrace.toml in {root} or above it, and no module {name!r} there: go to your project"
        return f"headrace.toml names the module {name!r}, but {root} has no {place}.py and no folder {place}/"
    return f"the module {name!r} of this project needs {error.name!r}, which is not installed"


def _refuse_shadow(module: ModuleType, root: Path) -> None:
    """Raise ProjectError if the project has this module but another one was imported."""
    top = root / module.__name__.partition(".")[0]
    places = [Path(place).resolve() for place in (module.__file__, *getattr(module, "__path__", ())) if place]
    is_own = any(place.is_relative_to(root) for place in places)
    if (top.is_dir() or top.with_suffix(".py").is_file()) and not is_own:
        raise ProjectError(
            f"the module {module.__name__!r} of {root} is shadowed by {places[0] if places else 'another module'} "
            "of the same name; rename the project's module and say so in headrace.toml"
        )


def _tree(module: ModuleType) -> Iterator[ModuleType]:
    """Yield the module and all its submodules."""
    yield module
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        try:
            yield importlib.import_module(found.name)
        except HeadraceError:
            raise
        except Exception as error:
            raise ProjectError(f"{found.name} does not import: {type(error).__name__}: {error}") from error
