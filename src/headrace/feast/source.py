"""The data source of a tiled view: the view's spec in Feast's registry."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

from feast import type_map, types
from feast.data_source import DataSource
from feast.errors import FeatureNameCollisionError
from feast.protos.feast.core.DataSource_pb2 import DataSource as SourceProto

from headrace.errors import NewerFormatError
from headrace.features.definitions.expression_kinds import as_list
from headrace.features.definitions.spec import read_spec, to_document
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.kernel.tile_kernel import TileKernel, kernel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

FORMAT = 1
_CLASS = "headrace.feast.source.HeadraceSource"
"""This name is stored in registries, so it is never renamed."""
_TIME = "timestamp[us, tz=UTC]"
_SINGLE = {
    "str": ("string", types.String), "int": ("int64", types.Int64), "float": ("double", types.Float64),
    "bool": ("bool", types.Bool), "datetime": (_TIME, types.UnixTimestamp), "date": (_TIME, types.UnixTimestamp),
}  # fmt: skip
_OF_LISTS = {f"list({kind})": (f"list<item: {name}>", types.Array(of)) for kind, (name, of) in _SINGLE.items()}
_ARROW = {kind: name for kind, (name, _) in {**_SINGLE, **_OF_LISTS}.items()}
TYPES = {kind: of for kind, (_, of) in {**_SINGLE, **_OF_LISTS}.items()}
"""Feast's types of join keys and of feature columns, by the kinds in a spec, of vectors as lists."""


class HeadraceSource(DataSource):
    """The event log of one stream, through the spec of one tiled view.

    A Feast view with such a source is tiled: its values come from tiles online and from the event log offline, and the
    spec says how. Raises NewerFormatError if a later release wrote the registry.
    """

    def __init__(
        self, spec: ViewSpec, *, description: str = "", tags: dict[str, str] | None = None, owner: str = ""
    ) -> None:
        super().__init__(
            name=f"headrace.{spec.name}",
            timestamp_field=spec.stream.event_time,
            description=description,
            tags=tags,
            owner=owner,
        )
        self.spec = spec

    @cached_property
    def view(self) -> str:
        """``name@version``, the view's name in the online store."""
        return self.spec.versioned_name

    @cached_property
    def kernel(self) -> TileKernel:
        """The kernel of the spec."""
        return kernel(self.spec)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """The feature columns in order, without the view's name, and their kinds, such as int or str."""
        prefix = f"{self.spec.name}__"
        return {name.removeprefix(prefix): kind for name, kind in self.spec.column_kinds.items()}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HeadraceSource) and super().__eq__(other) and self.view == other.view

    def __hash__(self) -> int:
        return hash((self.name, self.view))

    def source_type(self) -> Any:
        """Feast's number of custom sources."""
        return SourceProto.CUSTOM_SOURCE

    @staticmethod
    def from_proto(data_source: Any) -> HeadraceSource:
        """Return the source in a message of the registry."""
        found = json.loads(data_source.custom_options.configuration)
        if found["format"] != FORMAT:
            raise NewerFormatError(
                f"the Feast data source {data_source.name!r} is of format {found['format']}; this release reads "
                f"{FORMAT}: upgrade headrace"
            )
        return HeadraceSource(
            read_spec(found["spec"], ViewSpec, f"the Feast data source {data_source.name!r}"),
            description=data_source.description,
            tags=dict(data_source.tags),
            owner=data_source.owner,
        )

    def _to_proto_impl(self) -> Any:
        configuration = json.dumps({"format": FORMAT, "spec": to_document(self.spec)}, sort_keys=True)
        return SourceProto(
            name=self.name,
            type=SourceProto.CUSTOM_SOURCE,
            data_source_class_type=_CLASS,
            custom_options=SourceProto.CustomSourceOptions(configuration=configuration.encode()),
            timestamp_field=self.timestamp_field,
            description=self.description,
            tags=self.tags,
            owner=self.owner,
        )

    def validate(self, config: Any) -> None:
        """Do nothing: the spec was compiled from checked definitions."""

    @staticmethod
    def source_datatype_to_feast_value_type() -> Callable[[str], Any]:
        """Return Feast's conversion from Arrow's type names."""
        converter: Callable[[str], Any] = type_map.pa_to_feast_value_type
        return converter

    def get_table_column_names_and_types(self, config: Any) -> Iterable[tuple[str, str]]:
        """Return join keys, features and event time with Arrow's type names."""
        keys = [(name, _ARROW[kind]) for name, kind in self.spec.entity.key_kinds.items()]
        features = [(name, _ARROW[as_list(kind)]) for name, kind in self.kinds.items()]
        return [*keys, *features, (self.timestamp_field, _TIME)]


def tiled(view: Any) -> HeadraceSource | None:
    """Return the source of a tiled view; None for any other view of Feast."""
    source = getattr(view, "batch_source", None)
    return source if isinstance(source, HeadraceSource) else None


def check_names(asked: Iterable[tuple[Any, Sequence[str]]]) -> None:
    """Raise FeatureNameCollisionError if two views have a feature of the same short name.

    Feast checks the features that were asked for, but not those that an on-demand view reads: it could read the wrong
    one.
    """
    owners: dict[str, str] = {}
    for view, features in asked:
        for feature in features:
            if owners.setdefault(feature, view.name) != view.name:
                refs = [f"{owners[feature]}:{feature}", f"{view.name}:{feature}"]
                raise FeatureNameCollisionError(refs, full_feature_names=False)
