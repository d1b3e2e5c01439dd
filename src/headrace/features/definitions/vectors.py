"""Checks of features over vectors: their length is the one that the stream declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from headrace.bus.vector import dim_of
from headrace.errors import DefinitionError, naming
from headrace.features.definitions.expression_kinds import items_of, written_kind
from headrace.features.definitions.feature_spec import FirstSpec, LastSpec, MeanSpec, OfVectors, SumSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.features.definitions.feature_spec import FeatureSpec

_TAKE_VECTORS = (SumSpec, MeanSpec, FirstSpec, LastSpec)


def is_of_vectors(feature: FeatureSpec) -> bool:
    """Return whether a feature is a vector."""
    return isinstance(feature, OfVectors) and feature.dim is not UNSET


def check_vectors(where: str, feature: FeatureSpec, kinds: Mapping[str, str]) -> bool:
    """Return whether a feature of columns of ``kinds`` is one of vectors, which have its length.

    Raises DefinitionError if only one of the feature and its value is a vector, or if their lengths differ.
    """
    with naming(where):
        found = "int" if feature.value is None else written_kind(feature.value, kinds)
    asked, there = is_of_vectors(feature), dim_of(found)
    if not asked and (there is None or not isinstance(feature, _TAKE_VECTORS)):
        return False
    name = feature.aggregate.capitalize()
    if not asked:
        raise DefinitionError(f"{where} is a {feature.aggregate} of {found}: write {name}(…, dim={there})")
    dim = feature.dim  # type: ignore[attr-defined] # only features of vectors have it
    if there is None:
        hint = f": declare the field as Annotated[list[float], Vector({dim})]" if items_of(found) == "float" else ""
        raise DefinitionError(f"{where} has dim={dim}, and its value is {found}, which is no vector{hint}")
    if dim != there:
        raise DefinitionError(f"{where} has dim={dim}, and its value is {found}: write dim={there}")
    return True
