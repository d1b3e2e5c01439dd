"""What the server asks of a client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.kernel.on_demand import RequestValues
    from headrace.serving.features import FeatureVectors


class LookUpClient(Protocol):
    """:class:`AsyncFeatureClient`, or what stands for it."""

    async def get(
        self,
        features: str | Sequence[str],
        entities: Sequence[Mapping[str, Any]],
        *,
        as_of_us: int | None = None,
        request: RequestValues = None,
    ) -> FeatureVectors:
        """Look up."""
        ...
