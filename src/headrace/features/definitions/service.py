"""Feature services: the list of features that one model uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.bus.event import fields
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression import Expression, columns, kind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.view import FeatureView

from headrace.features.definitions.spec import (
    NUMBER_KINDS,
    SPEC_VERSION,
    checked_name,
    column_kinds,
    column_names,
    spec_hash,
)

ON_DEMAND_VERSION = 2
"""The version of a service's spec that has on-demand features; without any it is 1."""


@dataclass(frozen=True)
class FeatureService:
    """The list of features that one model uses: all columns of its views, in order, then those made on demand.

    ``on_demand`` names expressions over the columns of the views, the values of a request, and the names before it:
    ``{"gap": col("airport__mean_delay_1h") - col("route__mean_delay_1d")}``. ``request`` are the types of the values
    that a look-up brings along: int, float, bool, str or datetime, each perhaps ``| None``.
    """

    name: str
    views: Sequence[FeatureView]
    on_demand: Mapping[str, Expression] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_name("service", self.name)
        names = [view.name for view in self.views]
        if not names or len(set(names)) != len(names):
            message = f"service {self.name!r} lists views {names}: at least one, each once"
            raise DefinitionError(message)
        self._check_on_demand()

    def _check_on_demand(self) -> None:
        made = {feature["name"] for feature in self._made_on_demand}
        for view in self.views:
            for key in made & view.entity.join_keys.keys():
                message = (
                    f"service {self.name!r}: on_demand {key!r} is also a join key of view {view.name!r}: rename it"
                )
                raise DefinitionError(message)
        read = set().union(*(columns(expression.tree) for expression in self.on_demand.values()))
        for name in self.request:
            if name in made or name not in read:
                what = "is also an on-demand feature" if name in made else "is read by no on-demand feature"
                message = f"service {self.name!r}: the request's {name!r} {what}: rename it, or leave it out"
                raise DefinitionError(message)

    def columns(self) -> list[str]:
        """The names of the feature columns in order, such as ``airport__mean_delay_1h``."""
        return [*(column for view in self.views for column in column_names(view.spec)), *self.on_demand]

    @cached_property
    def request_fields(self) -> list[dict[str, Any]]:
        """The values of a request: ``name``, ``kind``, and whether they are ``nullable``."""
        for name in self.request:
            checked_name(f"service {self.name!r}: request", name)
        with naming(f"service {self.name!r}"):
            found = fields(msgspec.defstruct("request", list(self.request.items())))  # type: ignore[arg-type]
        for each in found:
            if each.many:
                message = (
                    f"service {self.name!r}: the request's {each.name!r} is a list; expressions take single values"
                )
                raise DefinitionError(message)
        return [{"name": each.name, "kind": each.kind, "nullable": each.nullable} for each in found]

    @cached_property
    def _made_on_demand(self) -> list[dict[str, Any]]:
        kinds = {each["name"]: each["kind"] for each in self.request_fields}
        for view in self.views if self.on_demand else ():
            kinds |= column_kinds(view.spec)
        made = []
        for name, expression in self.on_demand.items():
            place = f"service {self.name!r}: on_demand {name!r}"
            checked_name(f"service {self.name!r}: on_demand", name)
            with naming(place):
                kinds[name] = kind(expression.tree, kinds)
            if kinds[name] not in NUMBER_KINDS:
                message = f"{place} is {kinds[name]}; a feature is one of {NUMBER_KINDS}"
                raise DefinitionError(message)
            made.append({"name": name, "kind": kinds[name], "value": expression.tree})
        return made

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The service as plain JSON: its views by name and version, and what it makes of them on demand."""
        spec: dict[str, Any] = {"spec_version": SPEC_VERSION, "service": self.name}
        spec["views"] = [[view.name, view.version] for view in self.views]
        if self.on_demand:
            made = {"request": self.request_fields, "features": self._made_on_demand}
            spec |= {"spec_version": ON_DEMAND_VERSION, "on_demand": made}
        return spec

    @cached_property
    def version(self) -> str:
        """The spec's hash."""
        return spec_hash(self.spec)
