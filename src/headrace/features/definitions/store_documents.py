"""Two kinds of documents in the online store: for a service, and for the deployed version of a view.

Both name versions of views. A view's spec is a third kind, ``view:<name>@<version>``: see view_spec.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from headrace.errors import NewerFormatError
from headrace.features.definitions.service_spec import ON_DEMAND_VERSION, ServiceSpec, VersionedName
from headrace.features.definitions.spec import read_spec, to_document


class ServiceDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The document ``service:<name>``: a service's spec, and the number of the deployment that wrote it.

    If a later release has written it, its views can still be read, but :attr:`spec` raises NewerFormatError.
    """

    spec_version: int = 1
    name: str = msgspec.field(name="service", default="")
    views: tuple[VersionedName, ...]
    on_demand: Any = UNSET
    deployment: int | UnsetType = UNSET

    @classmethod
    def of(cls, spec: ServiceSpec, deployment: int | UnsetType = UNSET) -> ServiceDocument:
        """Return the document of a service's spec."""
        return msgspec.structs.replace(msgspec.convert(to_document(spec), cls), deployment=deployment)

    @property
    def spec(self) -> ServiceSpec:
        """The service's spec. Raises NewerFormatError if a later release has written it."""
        if self.spec_version > ON_DEMAND_VERSION:
            message = (
                f"service {self.name!r} has spec version {self.spec_version}, this release reads up to "
                f"{ON_DEMAND_VERSION}: upgrade headrace"
            )
            raise NewerFormatError(message)
        plain = msgspec.to_builtins(msgspec.structs.replace(self, deployment=UNSET))
        return read_spec(plain, ServiceSpec, f"service {self.name!r}")


class ViewDocument(msgspec.Struct, frozen=True, kw_only=True):
    """The document ``view:<name>``: the deployed version of a view, which a look-up by the view's name reads."""

    name: str = msgspec.field(name="view", default="")
    views: tuple[VersionedName]
    deployment: int | UnsetType = UNSET

    @classmethod
    def of(cls, name: str, version: str, deployment: int | UnsetType = UNSET) -> ViewDocument:
        """Return the document of one version of a view."""
        return cls(name=name, views=(VersionedName(name, version),), deployment=deployment)


NamingDocument = ServiceDocument | ViewDocument


def view_names(document: NamingDocument) -> list[str]:
    """Return the views that a document names, as ``name@version``."""
    return [*map(str, document.views)]


def deployment_number(document: NamingDocument) -> int:
    """Return the number of the deployment that wrote a document; 0 if a worker's own definitions were written."""
    return 0 if document.deployment is UNSET else document.deployment


def name_the_same(one: NamingDocument, other: NamingDocument) -> bool:
    """Return whether two documents are equal, without a look at the deployments that wrote them."""
    first, second = (msgspec.structs.replace(each, deployment=UNSET) for each in (one, other))
    return first == second


def read_service(document: object) -> ServiceDocument:
    """Return the document of a service. Raises DefinitionError if this release cannot read it."""
    return read_spec(document, ServiceDocument, "a service of the online store")


def read_view_name(document: object) -> ViewDocument:
    """Return the document of a view's name. Raises DefinitionError if this release cannot read it."""
    return read_spec(document, ViewDocument, "the name of a view in the online store")
