"""A version of a feature service whose served vectors are audited: the present one, or one that was deployed before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.service_spec import OnDemandSpec, ServiceSpec
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.trainers.definitions import Model


@dataclass(frozen=True)
class AuditedService:
    """A version of a service, with the specs of its views and its on-demand features."""

    version: str
    views: Sequence[ViewSpec]
    on_demand: OnDemandSpec

    @staticmethod
    def of_model(model: Model) -> AuditedService:
        """Return the service as the model defines it now."""
        views = [view.spec for view in model.features.views]
        return AuditedService(model.features.version, views, model.features.spec.made)

    @staticmethod
    def deployed(service: ServiceSpec, views: Mapping[str, ViewSpec]) -> AuditedService:
        """Return a service that was deployed. ``views`` are all views that were deployed, by ``name@version``."""
        return AuditedService(service.version, [views[name] for name in service.view_names], service.made)

    @property
    def columns(self) -> list[str]:
        """The feature columns, in order."""
        return [
            *(column for view in self.views for column in view.columns),
            *(feature.name for feature in self.on_demand.features),
        ]
