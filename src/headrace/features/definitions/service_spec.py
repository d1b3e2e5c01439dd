"""The spec of a feature service."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from headrace.bus.event import Kind
from headrace.features.definitions.expression_tree import ExpressionTree
from headrace.features.definitions.spec import spec_hash

ON_DEMAND_VERSION = 2
"""The version of a service's spec that has on-demand features; without them it is 1."""


class RequestField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that a look-up brings with its request. ``many``: it is a list of this kind."""

    name: str
    kind: Kind
    nullable: bool
    many: bool | UnsetType = UNSET

    @property
    def expression_kind(self) -> str:
        """The kind of it in expressions, such as ``int`` or ``list(float)``."""
        return f"list({self.kind})" if self.many is True else self.kind


class OnDemandFeature(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A feature that each look-up computes: an expression over looked-up columns and the request's values."""

    name: str
    kind: Literal["int", "float", "bool", "str"]
    value: ExpressionTree


class OnDemandSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The on-demand features of a service and the request's values that they read.

    ``lists`` has the kind of each column of a view that they read and that is a list, such as ``list(str)``.
    """

    request: tuple[RequestField, ...] = ()
    features: tuple[OnDemandFeature, ...] = ()
    lists: dict[str, str] | UnsetType = UNSET


class VersionedName(msgspec.Struct, frozen=True, array_like=True):
    """The name and the version of a feature view. As text it is ``name@version``."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class ServiceSpec(msgspec.Struct, frozen=True, kw_only=True, dict=True, forbid_unknown_fields=True):
    """A feature service as data: its views by version, and its on-demand features if it has any."""

    spec_version: int
    name: str = msgspec.field(name="service")
    views: tuple[VersionedName, ...]
    on_demand: OnDemandSpec | UnsetType = UNSET

    @cached_property
    def version(self) -> str:
        """The hash of the spec."""
        return spec_hash(self)

    @property
    def view_names(self) -> list[str]:
        """The views of the service, as ``name@version``."""
        return [*map(str, self.views)]

    @property
    def made(self) -> OnDemandSpec:
        """The on-demand features of the service; empty if it has none."""
        return OnDemandSpec() if self.on_demand is UNSET else self.on_demand
