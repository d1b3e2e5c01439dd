"""Feature services: the features that one model uses."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import UNSET

from headrace.base.arguments import expect_items, expect_values
from headrace.bus.event import fields, leaves
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression import Expression
from headrace.features.definitions.expression_kinds import items_of, written_kind
from headrace.features.definitions.expression_tree import NOW, columns
from headrace.features.definitions.service_spec import (
    ON_DEMAND_VERSION,
    OnDemandFeature,
    OnDemandSpec,
    RequestField,
    ServiceSpec,
    VersionedName,
)
from headrace.features.definitions.spec import NUMBER_KINDS, SPEC_VERSION, checked_name
from headrace.features.definitions.view import FeatureView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


_RESULTS = [*NUMBER_KINDS, "str"]
_IN_LISTS = ("int", "float", "bool", "str")
_IN_REQUESTS = ("int", "float", "bool", "str", "datetime")


@dataclass(frozen=True)
class FeatureService:
    """The list of features that one model uses: all columns of its views, in order, then its on-demand features.

    ``on_demand`` names expressions that each look-up computes over the columns of the views, the values of the request
    and the on-demand features before it. ``request`` has the types of the request's values: int, float, bool, str or
    datetime, or a list of the first four, each perhaps ``| None``, or an event of these, whose fields are
    ``col("card.country")``.

    Raises DefinitionError for a definition that cannot work; the message names the part and the choices.

    >>> from datetime import datetime
    >>> from headrace import Entity, Event, FeatureService, FeatureView, Mean, Stream, col
    >>> class Sale(Event):
    ...     shop: str
    ...     price: float
    ...     sold_at: datetime
    >>> sales = Stream("sales", Sale, event_time="sold_at")
    >>> shop = FeatureView("shop", Entity("shop"), sales, windows=["1d"], features={"mean": Mean("price")})
    >>> basket = FeatureService(
    ...     "basket",
    ...     [shop],
    ...     on_demand={"is_dear": col("price") > 2 * col("shop__mean_1d")},
    ...     request={"price": float},
    ... )
    >>> basket.columns()
    ['shop__mean_1d', 'is_dear']
    """

    name: str
    views: Sequence[FeatureView]
    on_demand: Mapping[str, Expression] = field(default_factory=dict)
    request: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checked_name("service", self.name)
        where = f"service {self.name!r}"
        expect_items(where, "views", self.views, FeatureView, write="a list of feature views, such as [card, shop]")
        expect_values(where, "on_demand", self.on_demand, Expression, write="a dict, such as {'far': col('km') > 9}")
        expect_values(where, "request", self.request, object, write="a dict, such as {'distance': float}")
        names = [view.name for view in self.views]
        if not names or len(set(names)) != len(names):
            message = f"service {self.name!r} lists views {names}: at least one, each once"
            raise DefinitionError(message)
        self._check_on_demand()

    def _check_on_demand(self) -> None:
        made = {feature.name for feature in self._made_on_demand}
        for view in self.views:
            for key in made & view.entity.join_keys.keys():
                message = (
                    f"service {self.name!r}: on_demand {key!r} is also a join key of view {view.name!r}: rename it"
                )
                raise DefinitionError(message)
        read = {name.partition(".")[0] for name in self._read}
        for name in self.request:
            if name in made or name not in read:
                what = "is also an on-demand feature" if name in made else "is read by no on-demand feature"
                message = f"service {self.name!r}: the request's {name!r} {what}: rename it, or leave it out"
                raise DefinitionError(message)

    def columns(self) -> list[str]:
        """Return the names of the feature columns in order, such as ``airport__mean_delay_1h``."""
        return [*(column for view in self.views for column in view.spec.columns), *self.on_demand]

    @cached_property
    def column_kinds(self) -> dict[str, str]:
        """The kind of each feature column in order: int, float, bool, str, datetime or date."""
        of_views = {name: kind for view in self.views for name, kind in view.spec.column_kinds.items()}
        return of_views | {feature.name: feature.kind for feature in self._made_on_demand}

    @cached_property
    def _read(self) -> set[str]:
        """The columns that the on-demand features read."""
        return set().union(*(columns(expression.tree) for expression in self.on_demand.values()))

    @cached_property
    def request_fields(self) -> tuple[RequestField, ...]:
        """The values that a look-up brings with its request."""
        for name in self.request:
            checked_name(f"service {self.name!r}: request", name)
        with naming(f"service {self.name!r}"):
            whole = leaves(fields(msgspec.defstruct("request", list(self.request.items()))))  # type: ignore[arg-type]
        found = [each for each in whole if "." not in each.name or each.name in self._read]
        for each in found:
            if each.keyed or each.kind not in (_IN_LISTS if each.many else _IN_REQUESTS):
                what = "a dict" if each.keyed else f"a list of {each.kind}" if each.many else each.kind
                message = (
                    f"service {self.name!r}: request.{each.name} is {what}; a value of a request is one of "
                    f"{', '.join(_IN_REQUESTS)}, or a list of {', '.join(_IN_LISTS)}"
                )
                raise DefinitionError(message)
        return tuple(
            RequestField(name=each.name, kind=each.kind, nullable=each.nullable, many=each.many or UNSET)
            for each in found
        )

    @cached_property
    def _made_on_demand(self) -> tuple[OnDemandFeature, ...]:
        kinds: dict[str, str] = {each.name: each.expression_kind for each in self.request_fields} | {NOW: "datetime"}
        for view in self.views if self.on_demand else ():
            kinds |= view.spec.column_kinds
        made = []
        for name, expression in self.on_demand.items():
            place = f"service {self.name!r}: on_demand {name!r}"
            checked_name(f"service {self.name!r}: on_demand", name)
            with naming(place):
                kinds[name] = written_kind(expression.tree, kinds)
            if kinds[name] not in _RESULTS:
                message = f"{place} is {kinds[name]}; a feature is one of {_RESULTS}"
                raise DefinitionError(message)
            made.append(OnDemandFeature(name=name, kind=cast("Any", kinds[name]), value=expression.tree))
        return tuple(made)

    @property
    def _lists(self) -> dict[str, str]:
        """The kinds of the views' columns that on-demand features read and that are lists."""
        of = {name: kind for view in self.views for name, kind in view.spec.column_kinds.items()}
        items = {name: items_of(of[name]) for name in sorted(self._read & of.keys())}
        return {name: f"list({own})" for name, own in items.items() if own is not None}

    @cached_property
    def spec(self) -> ServiceSpec:
        """The service as data: its views by name and version, and its on-demand features."""
        made = OnDemandSpec(request=self.request_fields, features=self._made_on_demand, lists=self._lists or UNSET)
        return ServiceSpec(
            spec_version=ON_DEMAND_VERSION if self.on_demand else SPEC_VERSION,
            name=self.name,
            views=tuple(VersionedName(view.name, view.version) for view in self.views),
            on_demand=made if self.on_demand else UNSET,
        )

    @property
    def version(self) -> str:
        """The hash of the spec."""
        return self.spec.version
