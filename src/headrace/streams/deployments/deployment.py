"""What is deployed, views and services as data: the fold of ``headrace.definitions``, a log that is kept for ever.

A deployment says all that is wanted from then on. Earlier view versions are folded on until a retirement names them,
and a retired one is folded again, from the event log, when a model version or a deployment names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus import message
from headrace.features.definitions.spec import spec_hash, view_name
from headrace.models.model_events import Published

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.models.model_state import ModelState

FORMAT = 1
Spec = dict[str, Any]


class Deployed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="deployed"):
    """These views and services, as specs, are what a namespace wants. ``expects``: the deployment before, or null.

    One whose ``expects`` is not the current deployment is void for everyone.
    """

    id: str
    namespace: str
    expects: str | None
    views: list[Spec]
    services: list[Spec]
    at_us: int
    format: int = FORMAT


class ViewsRetired(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="views_retired"):
    """Nothing needs these view versions (``name@version``) under the deployment ``expects``: their keys may go."""

    namespace: str
    expects: str
    views: list[str]
    at_us: int
    format: int = FORMAT


DeploymentChange = Deployed | ViewsRetired


def decode(data: bytes | None) -> DeploymentChange:
    """The change in these bytes. Raises CodecError, and NewerFormatError for one of a later release."""
    return message.decode(data, DeploymentChange, FORMAT, "a deployment")


@dataclass(frozen=True)
class Deployment:
    """What a prefix of one namespace's changes amounts to. ``specs`` are all views that were ever deployed, by name.

    ``number`` counts deployments from 1; 0 is before the first. Names are ``name@version``.
    """

    number: int = 0
    current: Deployed | None = None
    specs: Mapping[str, Spec] = field(default_factory=lambda: MappingProxyType({}))
    services_before: frozenset[str] = frozenset()
    retired: frozenset[str] = frozenset()

    @property
    def id(self) -> str | None:
        """The current deployment: what the next one has to expect."""
        return None if self.current is None else self.current.id

    @cached_property
    def views(self) -> dict[str, Spec]:
        """The wanted views by name."""
        return {} if self.current is None else {named(spec): spec for spec in self.current.views}

    @cached_property
    def services(self) -> dict[str, Spec]:
        """The wanted services by name."""
        return {} if self.current is None else {spec["service"]: spec for spec in self.current.services}

    @cached_property
    def versions(self) -> dict[str, Spec]:
        """The wanted version of each view, by the view's name: see :func:`deployed_version`."""
        specs = [] if self.current is None else self.current.views
        return {spec["view"]: deployed_version(spec["view"], spec_hash(spec)) for spec in specs}

    @property
    def gone_views(self) -> list[str]:
        """Names of views of earlier deployments that are not wanted any more."""
        return sorted({spec["view"] for spec in self.specs.values()} - self.versions.keys())

    @property
    def gone_services(self) -> list[str]:
        """Services of earlier deployments that are not wanted any more."""
        return sorted(self.services_before - self.services.keys())

    def folded(self, named_by_models: Iterable[str]) -> dict[str, Spec]:
        """The views that workers keep up to date."""
        again = {*self.views, *named_by_models}
        return {name: spec for name, spec in self.specs.items() if name not in self.retired or name in again}

    def deploys(self, views: Sequence[Spec], services: Sequence[Spec]) -> bool:
        """Whether exactly these are the current ones, in any order."""
        wanted = {named(spec): spec for spec in views}, {spec["service"]: spec for spec in services}
        return self.current is not None and (self.views, self.services) == wanted


def advance(state: Deployment, change: DeploymentChange) -> Deployment:
    """The state after one more change; a void one leaves it as it is."""
    if change.expects != state.id:
        return state
    if isinstance(change, ViewsRetired):
        return replace(state, retired=state.retired | (set(change.views) - state.views.keys()))
    views = {named(spec): spec for spec in change.views}
    return Deployment(
        state.number + 1,
        change,
        MappingProxyType({**state.specs, **views}),
        state.services_before | {spec["service"] for spec in change.services},
        state.retired - views.keys(),
    )


def named(spec: Spec) -> str:
    """``name@version`` of a view."""
    return view_name(spec, spec_hash(spec))


def deployed_version(view: str, version: str) -> Spec:
    """The document ``view:<name>``: the version that a look-up by the view's name reads. It has a service's form."""
    return {"view": view, "views": [[view, version]]}


def told_by(service: Spec) -> Spec:
    """What a service's document in the store tells applications: all but which deployment it is of."""
    return {name: part for name, part in service.items() if name != "deployment"}


def views_of(service: Spec) -> list[str]:
    """``name@version`` of a service's views."""
    return [f"{name}@{version}" for name, version in service["views"]]


def named_by_models(states: Mapping[str, ModelState]) -> dict[str, list[str]]:
    """View → the model versions that are live or may be live again, and look it up, such as ``delay 3``."""
    found: dict[str, list[str]] = {}
    for model, state in sorted(states.items()):
        for event in state.history:
            if isinstance(event.data, Published) and event.data.version not in state.retired:
                for view in event.data.service.views:
                    found.setdefault(f"{view.name}@{view.spec_hash}", []).append(f"{model} {event.data.version}")
    return found
