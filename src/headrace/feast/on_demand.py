"""On-demand features as Feast's on-demand views: Feast computes the same expressions in its look-ups and joins."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import feast
import numpy as np
from feast import types
from feast.on_demand_feature_view import OnDemandFeatureView
from feast.transformation.python_transformation import PythonTransformation

from headrace.base.times import epoch_us, utc_datetime
from headrace.feast.source import TYPES
from headrace.features.definitions.service_spec import OnDemandSpec
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.kernel.masked_column import MaskedColumn, column
from headrace.features.kernel.on_demand import on_demand

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from headrace.features.definitions.service_spec import RequestField, ServiceSpec

    OnDemandInputs = Mapping[str, Sequence[Any]]

_TYPES = {**TYPES, "datetime": types.UnixTimestamp}
_SOURCE = '''\
def {name}(inputs):
    """{features} of the feature service {service}."""
    from headrace.feast.on_demand import evaluate

    return evaluate({text!r}, inputs)
'''
"""The source that Feast stores, shows, and runs again in another process."""


class _StoredSpec(OnDemandSpec, frozen=True, kw_only=True):
    """The text in the function that Feast keeps: its view, and the kinds of the looked-up columns that it reads."""

    view: str
    columns: dict[str, str]


@lru_cache(maxsize=256)
def _read(text: str) -> _StoredSpec:
    return read_spec(json.loads(text), _StoredSpec, "a function of Feast's registry")


class _OnDemandView(OnDemandFeatureView):
    """An on-demand view whose features are known. Without this, Feast finds them by a trial run on invented values."""

    def infer_features(self) -> None:
        """Do nothing: the features are known."""


def on_demand_view(spec: ServiceSpec, views: Mapping[str, Any], tags: Mapping[str, str]) -> Any:
    """Return the on-demand features of a service as a view of Feast. ``views`` are its views in Feast, by name."""
    own, name = on_demand(spec.on_demand), f"{spec.name}_on_demand"
    kinds: dict[str, str] = {}
    for view in spec.views:
        kinds |= views[view.name].batch_source.spec.column_kinds
    reads = own.reads or [next(iter(kinds))]  # at least one: by its name `evaluate` knows which names are wanted
    text = json.dumps({"view": name, "columns": {read: kinds[read] for read in reads}, **to_document(spec.made)})
    fields = [feast.Field(name=each.name, dtype=_type(each)) for each in own.request]
    request = [feast.RequestSource(name=f"headrace.{name}", schema=fields)] if fields else []
    features = ", ".join(own.names)
    source = _SOURCE.format(name=name, features=features, service=spec.name, text=text)
    return _OnDemandView(
        name=name,
        sources=[*_sources(reads, views), *request],
        schema=[feast.Field(name=each.name, dtype=_TYPES[each.kind]) for each in own.features],
        mode="python",
        feature_transformation=PythonTransformation(udf=_function(name, text), udf_string=source),
        description=f"{features}, made of what was looked up and of the request",
        tags=dict(tags) | {"headrace.version": spec.version},
    )


def _type(field: RequestField) -> Any:
    return types.Array(_TYPES[field.kind]) if field.many else _TYPES[field.kind]


def _sources(reads: Sequence[str], views: Mapping[str, Any]) -> list[Any]:
    """The views that are read, each with the columns that are read."""
    wanted: dict[str, list[str]] = {}
    for read in reads:
        view, _, feature = read.partition("__")
        wanted.setdefault(view, []).append(feature)
    return [views[view][features] for view, features in wanted.items()]


def _function(name: str, text: str) -> Callable[[OnDemandInputs], dict[str, list[Any]]]:
    def function(inputs: OnDemandInputs) -> dict[str, list[Any]]:
        return evaluate(text, inputs)

    function.__name__ = name
    return function


def evaluate(text: str, inputs: OnDemandInputs) -> dict[str, list[Any]]:
    """Return the features, computed from the values that Feast looked up and was given; None if there is no value.

    ``inputs`` has each looked-up column under two names, a long and a short one. The names that Feast was asked for
    come first, and the features are named in the same way. Raises RequestValueError for a value of the request that is
    missing or of another type.
    """
    spec = _read(text)
    own = on_demand(OnDemandSpec(request=spec.request, features=spec.features, lists=spec.lists))
    looked_up = {name: column(inputs[name], kind) for name, kind in spec.columns.items()}
    rows = len(next(iter(looked_up.values())).values)
    parts = {name: (each.values, each.present) for name, each in looked_up.items()}
    found = own.values(parts, own.given(_rows(inputs, [field.name for field in own.request], rows)), rows)
    names, first = list(inputs), next(iter(looked_up))
    is_long = names.index(first) < names.index(first.partition("__")[2])
    prefix = f"{spec.view}__" if is_long else ""
    return {
        prefix + name: MaskedColumn(values, present).to_list()
        for name, (values, present) in zip(own.names, found, strict=True)
    }


def _rows(inputs: OnDemandInputs, names: Sequence[str], rows: int) -> list[dict[str, Any]]:
    """The values of the request, one dict for each row."""
    given = {name: inputs[name] for name in names if name in inputs}
    return [{name: _zoned(of[row]) for name, of in given.items()} for row in range(rows)]


def _zoned(value: Any) -> Any:
    """A time as a look-up takes it. In a spine it may be pandas' own type; without a zone it is UTC."""
    if not isinstance(value, datetime):
        return value.tolist() if isinstance(value, np.ndarray) else value
    return utc_datetime(epoch_us(value.replace(tzinfo=value.tzinfo or UTC)))
