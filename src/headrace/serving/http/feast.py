"""`/get-online-features`: the request and the response of Feast's own feature server."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headrace.errors import FeaturesUnknownError
from headrace.features.online.value_columns import lists_of
from headrace.serving.http.feast_columns import FeastRows, FeastVector, of_key
from headrace.serving.http.messages import JsonScalar
from headrace.serving.http.problems import each_once, invalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace.features.online.value_columns import ColumnLists
    from headrace.serving.async_features import LookUpClient
    from headrace.serving.features import FeatureVectors, ViewAnswer

_VIEWS = 1_024
_LATEST = "@latest"


class FeastRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request of Feast's clients: entities by column."""

    entities: Annotated[dict[str, list[JsonScalar]], Meta(description="The values of each join key, one an entity.")]
    feature_service: Annotated[str | None, Meta(description="A feature service; else `features`.")] = None
    features: Annotated[list[str], Meta(description="Features as `view:feature`, or `view@version:feature`.")] = []
    full_feature_names: Annotated[bool, Meta(description="Whether features are named `view__feature`.")] = False
    include_feature_view_version_metadata: Annotated[bool, Meta(description="Whether the views are listed.")] = False

    @property
    def views(self) -> set[str]:
        """The views that the request names; none if it names a service."""
        return set() if self.feature_service is not None else {name.partition(":")[0] for name in self.features}

    def rows(self) -> list[dict[str, JsonScalar]]:
        """Return the entities by row. Raises ProblemError if the columns differ in length."""
        sizes = {name: len(values) for name, values in self.entities.items()}
        if len({*sizes.values()}) > 1:
            raise invalid(f"the columns of `entities` have {sizes} values; give each as many")
        columns = [[(name, value) for value in values] for name, values in self.entities.items()]
        return [dict(row) for row in zip(*columns, strict=True)]


class FeastView(msgspec.Struct, frozen=True, kw_only=True):
    """A view of the response."""

    name: str


class FeastMetadata(msgspec.Struct, frozen=True, kw_only=True):
    """The names of the columns."""

    feature_names: list[str]
    feature_view_metadata: list[FeastView] | UnsetType = UNSET


class FeastResponse(msgspec.Struct, frozen=True, kw_only=True):
    """The join keys, then the features, each a column."""

    results: list[FeastVector]
    metadata: FeastMetadata


class FeastLookUps:
    """Answers Feast's requests."""

    def __init__(self, client: LookUpClient) -> None:
        self._client = client

    async def get(self, asked: FeastRequest) -> tuple[FeatureVectors, FeastResponse]:
        """Return the answer of the look-up, and Feast's response for it. Raises ProblemError and a look-up's errors."""
        rows = asked.rows()
        if asked.feature_service is not None:
            found = await self._client.get(asked.feature_service, rows)
            return found, _response(asked, found, {})
        wanted = _by_view(asked.features)
        found = await self._client.get_views([view.removesuffix(_LATEST) for view in wanted], rows)
        names = {view.partition("@")[0]: features for view, features in wanted.items()}
        return found, _response(asked, found, names)


def _by_view(references: Sequence[str]) -> dict[str, list[str]]:
    each_once("features", references)
    wanted: dict[str, list[str]] = {}
    for reference in references:
        view, _, feature = reference.partition(":")
        if not view or not feature:
            raise invalid(f"{reference!r} is not a feature: write view:feature or view@version:feature")
        wanted.setdefault(view, []).append(feature)
    names = [view.partition("@")[0] for view in wanted]
    if not names or len({*names}) < len(names):
        raise invalid(f"features of {[*wanted]} came; ask for a service or a feature, and for each view in one version")
    return wanted


def _response(asked: FeastRequest, found: FeatureVectors, wanted: Mapping[str, Sequence[str]]) -> FeastResponse:
    keys = {key for answer in found.views for key in answer.keys}
    lacking = sorted(keys - {*asked.entities})
    if lacking:
        raise invalid(f"`entities` has {sorted(asked.entities)} and lacks the join keys {lacking}")
    names = [name for name in asked.entities if name in keys]
    results = [of_key(asked.entities[name]) for name in names]
    for answer in found.views:
        rows = FeastRows.of_view(found, answer)
        own, columns = _columns(answer, wanted.get(answer.view))
        names += [f"{answer.view}__{name}" for name in own] if asked.full_feature_names else own
        results += map(rows.vector, columns)
    if found.on_demand:
        made = FeastRows.made(found.rows)
        names += found.on_demand
        results += [made.vector(lists_of([values], 0)) for values in found.on_demand.values()]
    if len({*names}) < len(names):
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        detail = f"more than one column would be named {twice}: set full_feature_names, and ask for each feature once"
        raise invalid(detail)
    views = [FeastView(name=answer.view) for answer in found.views]
    with_views = asked.include_feature_view_version_metadata
    return FeastResponse(
        results=results,
        metadata=FeastMetadata(feature_names=names, feature_view_metadata=views if with_views else UNSET),
    )


def _columns(answer: ViewAnswer, wanted: Sequence[str] | None) -> tuple[Sequence[str], Iterable[ColumnLists]]:
    """Return the names of the wanted features (None: all), and their values."""
    places = _places(answer.view, tuple(answer.columns))
    wanted = [*places] if wanted is None else wanted
    unknown = [name for name in wanted if name not in places]
    if unknown:
        raise FeaturesUnknownError(f"view {answer.view!r} has no features {unknown}; it has {[*places]}")
    return wanted, [lists_of(answer.values, places[name]) for name in wanted]


@lru_cache(_VIEWS)
def _places(view: str, columns: Sequence[str]) -> Mapping[str, int]:
    """Return the place of each feature of a view, by its name without the view's name."""
    return {name.removeprefix(f"{view}__"): place for place, name in enumerate(columns)}
