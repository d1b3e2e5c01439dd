"""Deployments: the views and services that a namespace wants. They are the fold of the topic ``definitions``.

A deployment names everything that is wanted from then on. An earlier view version is still folded until a retirement
names it. A retired version is folded again, from the event log, when a model version or a deployment names it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
import polars as pl
from msgspec import UNSET

from headrace.base.times import Instant
from headrace.bus import message
from headrace.bus.codec import column_type
from headrace.bus.stream_spec import OPERATION
from headrace.errors import CodecError
from headrace.features.definitions.service_spec import ServiceSpec
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.store_documents import NamingDocument, ServiceDocument, ViewDocument
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.definitions.windows import ROW_US
from headrace.features.kernel.role_rows import in_roles
from headrace.features.kernel.tile_kernel import kernel
from headrace.models.model_events import Published

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.bus.stream_spec import StreamSpec
    from headrace.features.definitions.windows import WindowSpec
    from headrace.models.model_state import ModelState

FORMAT = 1


class Deployed(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="deployed"):
    """A namespace wants these views and services. ``expects`` is the deployment before it, or null.

    A deployment whose ``expects`` is not the current deployment is void for everyone.
    """

    id: str
    namespace: str
    expects: str | None
    views: list[ViewSpec]
    services: list[ServiceSpec]
    at_us: Instant
    format: int = FORMAT


class ViewsRetired(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="views_retired"):
    """View versions (``name@version``) that nothing needs under the deployment ``expects``: their keys may go."""

    namespace: str
    expects: str
    views: list[str]
    at_us: Instant
    format: int = FORMAT


DeploymentChange = Deployed | ViewsRetired


def encode(change: DeploymentChange) -> bytes:
    """Return the message of a change."""
    plain = msgspec.to_builtins(change)
    if isinstance(change, Deployed):
        plain["views"] = [to_document(spec) for spec in change.views]
        plain["services"] = [to_document(spec) for spec in change.services]
    return msgspec.json.encode(plain)


def decode(data: bytes | None) -> DeploymentChange:
    """Return the change in a message. Raises CodecError, and NewerFormatError for one of a later release.

    A deployment with a view that no worker could fold is not read either.
    """
    change: DeploymentChange = message.decode(data, DeploymentChange, FORMAT, "a deployment")
    if isinstance(change, Deployed):
        for spec in change.views:
            _check(spec)
    return change


def _check(spec: ViewSpec) -> None:
    """Raise CodecError unless the view has windows, compiles, and folds rows of its stream: here none."""
    try:
        if not spec.windows or any(not _is_sound(window) for window in spec.windows):
            raise ValueError("a window is not as long as its tiles")  # noqa: TRY301 - one place that words it
        compiled = kernel(spec)
        for topic in spec.topics:
            rows = _no_rows(spec.stream_of(topic)).select(list(dict.fromkeys([*spec.fields_of(topic), *_OWN])))
            compiled.lift(compiled.keep(in_roles(rows, spec, topic)))
    except Exception as error:
        raise CodecError(f"view {spec.name!r} of a deployment cannot be folded: {message.problem(error)}") from error


def _is_sound(window: WindowSpec) -> bool:
    """Return whether a window is as long as its tiles, and its lag is a whole number of them.

    Tiles of rows are those of no other window, and a tile of a session is not longer than its gap.
    """
    lag_us = window.skipped_us
    if (window.tile_us == ROW_US) != (window.newest_rows is not UNSET):
        return False
    if window.session is not UNSET and (window.tile_us > window.session.gap_us or window.newest_rows is not UNSET):
        return False
    return 0 < window.tile_us <= window.length_us and lag_us >= 0 and lag_us % window.tile_us == 0


_OWN: dict[str, Any] = {"__time": pl.Int64(), "__row_offset": pl.Int64(), "__available_at": pl.Datetime("us", "UTC")}


def _no_rows(stream: StreamSpec) -> pl.DataFrame:
    operation = {OPERATION: pl.String()} if stream.table else {}
    return pl.DataFrame(schema={field.name: column_type(field) for field in stream.fields} | operation | _OWN)


@dataclass(frozen=True)
class Deployment:
    """The state that the changes of one namespace lead to.

    ``specs`` are all views that were ever deployed, by ``name@version``; ``service_versions`` are all services, by
    their version. ``number`` counts deployments from 1; it is 0 before the first.
    """

    number: int = 0
    current: Deployed | None = None
    specs: Mapping[str, ViewSpec] = field(default_factory=lambda: MappingProxyType({}))
    service_versions: Mapping[str, ServiceSpec] = field(default_factory=lambda: MappingProxyType({}))
    retired: frozenset[str] = frozenset()

    @property
    def id(self) -> str | None:
        """The current deployment, which the next one has to expect."""
        return None if self.current is None else self.current.id

    @cached_property
    def views(self) -> dict[str, ViewSpec]:
        """The wanted views by ``name@version``."""
        return {} if self.current is None else {spec.versioned_name: spec for spec in self.current.views}

    @cached_property
    def services(self) -> dict[str, ServiceSpec]:
        """The wanted services by name."""
        return {} if self.current is None else {spec.name: spec for spec in self.current.services}

    @property
    def documents(self) -> dict[str, NamingDocument]:
        """The wanted documents of services and of views' names, by the names of the documents."""
        found: dict[str, NamingDocument] = {
            f"service:{name}": ServiceDocument.of(spec, self.number) for name, spec in self.services.items()
        }
        found |= {
            f"view:{spec.name}": ViewDocument.of(spec.name, spec.version, self.number) for spec in self.views.values()
        }
        return found

    @property
    def gone_views(self) -> list[str]:
        """Names of views of earlier deployments that are not wanted any more."""
        return sorted({spec.name for spec in self.specs.values()} - {spec.name for spec in self.views.values()})

    @property
    def gone_services(self) -> list[str]:
        """Services of earlier deployments that are not wanted any more."""
        return sorted({spec.name for spec in self.service_versions.values()} - self.services.keys())

    def folded(self, named_by_models: Iterable[str]) -> dict[str, ViewSpec]:
        """Return the views that workers keep up to date, by ``name@version``."""
        again = {*self.views, *named_by_models}
        return {name: spec for name, spec in self.specs.items() if name not in self.retired or name in again}

    def deploys(self, views: Sequence[ViewSpec], services: Sequence[ServiceSpec]) -> bool:
        """Return whether exactly these are deployed now, in any order."""
        wanted = {spec.versioned_name: spec for spec in views}, {spec.name: spec for spec in services}
        return self.current is not None and (self.views, self.services) == wanted


def advance(state: Deployment, change: DeploymentChange) -> Deployment:
    """Return the state after one more change. A void change leaves it unchanged."""
    if change.expects != state.id:
        return state
    if isinstance(change, ViewsRetired):
        return replace(state, retired=state.retired | (set(change.views) - state.views.keys()))
    views = {spec.versioned_name: spec for spec in change.views}
    return Deployment(
        state.number + 1,
        change,
        MappingProxyType({**state.specs, **views}),
        MappingProxyType({**state.service_versions, **{spec.version: spec for spec in change.services}}),
        state.retired - views.keys(),
    )


def named_by_models(states: Mapping[str, ModelState]) -> dict[str, list[str]]:
    """Return for each view the model versions, such as ``delay 3``, that look it up and are live or may be again."""
    found: dict[str, list[str]] = {}
    for model, state in sorted(states.items()):
        for event in state.history:
            if isinstance(event.data, Published) and event.data.version not in state.retired:
                for view in event.data.service.views:
                    found.setdefault(f"{view.name}@{view.spec_hash}", []).append(f"{model} {event.data.version}")
    return found
