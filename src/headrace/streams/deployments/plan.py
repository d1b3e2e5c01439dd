"""The plan of a deployment: what it would add, change and remove. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.features.definitions.store_documents import ServiceDocument, name_the_same, view_names
from headrace.streams.deployments.spec_diff import changes, service_changes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from headrace.features.definitions.service_spec import ServiceSpec
    from headrace.features.definitions.view_spec import ViewSpec
    from headrace.streams.deployments.deployment import Deployment

PlanAction = Literal["added", "changed", "removed", "retires", "kept", "unchanged", "not deployed"]


class BackfillEstimate(msgspec.Struct, frozen=True):
    """The cost of a backfill. ``bytes`` of keys and fields in Redis are a lower bound if ``is_sample``."""

    rows: int
    bytes: int
    seconds: float
    is_sample: bool


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a plan for one view version, service or processor: it says what happens to it.

    A view that is removed or changed leaves an old version, which has a line of its own: it *retires*, or it is *kept*
    for the reasons in ``why``. ``what`` has the changes, one phrase each. ``live``: the view has caught up, or the
    service is in force. A processor is *not deployed*: `headrace process` takes it from the project when it starts.
    """

    kind: Literal["view", "service", "processor"]
    name: str
    action: PlanAction
    before: str | None = None
    after: str | None = None
    what: list[str] = []
    why: list[str] = []
    live: bool | None = None
    estimate: BackfillEstimate | None = None


class DeploymentPlan(msgspec.Struct, frozen=True):
    """The lines of a plan. ``expects`` is the deployment that the plan was made against."""

    expects: str | None
    lines: list[PlanLine]
    is_deployed: bool

    @property
    def is_live(self) -> bool:
        """True if nothing has to be deployed and everything that is deployed has caught up."""
        return self.is_deployed and all(line.live is not False for line in self.lines)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return {"changes": not self.is_deployed, "live": self.is_live} | content


def make_plan(
    state: Deployment,
    views: Sequence[ViewSpec],
    services: Sequence[ServiceSpec],
    *,
    models: Mapping[str, Sequence[str]],
    in_force: Mapping[str, ServiceDocument],
    live: Mapping[str, bool],
) -> DeploymentPlan:
    """Return the plan that leads from ``state`` to these specs.

    ``models`` has the model versions that name a view, ``in_force`` the online store's documents of the services, and
    ``live`` whether a view has caught up.
    """
    wanted = {spec.versioned_name: spec for spec in views}
    lines = [_view(state, spec, live=live.get(name, False)) for name, spec in wanted.items()]
    lines += [_service(state, spec, in_force.get(spec.name)) for spec in services]
    gone = state.services.keys() - {spec.name for spec in services}
    lines += [PlanLine(kind="service", name=name, action="removed") for name in sorted(gone)]
    old = [name for name in state.folded(models) if name not in wanted]
    lines += [_old(name, _needs(name, models, services, in_force)) for name in old]
    return DeploymentPlan(state.id, lines, state.deploys(views, services))


def _view(state: Deployment, spec: ViewSpec, *, live: bool) -> PlanLine:
    before = next((old for old in state.views.values() if old.name == spec.name), None)
    if before is None:
        return PlanLine(kind="view", name=spec.name, action="added", after=spec.version)
    if before == spec:
        return PlanLine(kind="view", name=spec.name, action="unchanged", after=spec.version, live=live)
    return PlanLine(
        kind="view",
        name=spec.name,
        action="changed",
        before=before.version,
        after=spec.version,
        what=changes(before, spec),
    )


def _service(state: Deployment, spec: ServiceSpec, in_force: ServiceDocument | None) -> PlanLine:
    name, before = spec.name, state.services.get(spec.name)
    if before is None:
        return PlanLine(kind="service", name=name, action="added", what=_names(spec))
    if before == spec:
        return PlanLine(
            kind="service",
            name=name,
            action="unchanged",
            live=in_force is not None and name_the_same(in_force, ServiceDocument.of(spec)),
        )
    return PlanLine(kind="service", name=name, action="changed", what=service_changes(before, spec))


def _names(service: ServiceSpec) -> list[str]:
    made = [f"+ on-demand {feature.name}" for feature in service.made.features]
    return [*(f"+ {view.name}" for view in service.views), *made]


def _old(name: str, why: list[str]) -> PlanLine:
    view, _, version = name.rpartition("@")
    return PlanLine(kind="view", name=view, action="kept" if why else "retires", before=version, why=why)


def _needs(
    name: str,
    models: Mapping[str, Sequence[str]],
    services: Sequence[ServiceSpec],
    in_force: Mapping[str, ServiceDocument],
) -> list[str]:
    """The reasons why an old version stays. A service that goes over to another version needs it until then."""
    wanted = {spec.name for spec in services}
    reasons = [f"model {version}" for version in models.get(name, ())]
    return reasons + [
        f"service {service}, until it has gone over"
        for service, document in in_force.items()
        if service in wanted and name in view_names(document)
    ]
