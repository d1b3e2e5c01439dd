"""What deploying a project would change: pure, from what is deployed, what is wanted, and who needs what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from headrace.streams.deployments.deployment import Deployment, Spec, named, told_by, views_of
from headrace.streams.deployments.spec_diff import changes, service_changes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PlanAction = Literal["added", "changed", "removed", "retires", "kept", "unchanged"]


class BackfillEstimate(msgspec.Struct, frozen=True):
    """What a backfill takes. ``bytes``: keys and fields in Redis, at least so much where only a sample was folded."""

    rows: int
    bytes: int
    seconds: float
    is_sample: bool


class PlanLine(msgspec.Struct, frozen=True, kw_only=True):
    """One view version or service, and what becomes of it.

    A view that is *removed* or *changed* leaves its old version, which has a line of its own: it *retires*, or it is
    *kept* for ``why``. ``live``: whether it has caught up, or the service is in force.
    """

    kind: Literal["view", "service"]
    name: str
    action: PlanAction
    before: str | None = None
    after: str | None = None
    what: list[str] = []
    why: list[str] = []
    live: bool | None = None
    estimate: BackfillEstimate | None = None


class DeploymentPlan(msgspec.Struct, frozen=True):
    """All of it. ``expects`` is the deployment that it was made against."""

    expects: str | None
    lines: list[PlanLine]
    is_deployed: bool

    @property
    def is_live(self) -> bool:
        """Whether nothing has to be deployed, and everything that is has caught up."""
        return self.is_deployed and all(line.live is not False for line in self.lines)

    def told(self) -> dict[str, Any]:
        """As plain JSON."""
        content: dict[str, Any] = msgspec.to_builtins(self)
        return {"changes": not self.is_deployed, "live": self.is_live} | content


def make_plan(
    state: Deployment,
    views: Sequence[Spec],
    services: Sequence[Spec],
    *,
    models: Mapping[str, Sequence[str]],
    in_force: Mapping[str, Spec],
    live: Mapping[str, bool],
) -> DeploymentPlan:
    """The plan that leads from ``state`` to these specs.

    ``models`` says which versions name a view, ``in_force`` what the online store says of the services, ``live`` which
    views have caught up.
    """
    wanted = {named(spec): spec for spec in views}
    lines = [_view(state, name, spec, live=live.get(name, False)) for name, spec in wanted.items()]
    lines += [_service(state, spec, in_force.get(spec["service"])) for spec in services]
    gone = state.services.keys() - {spec["service"] for spec in services}
    lines += [PlanLine(kind="service", name=name, action="removed") for name in sorted(gone)]
    old = [name for name in state.folded(models) if name not in wanted]
    lines += [_old(name, _needs(name, models, services, in_force)) for name in old]
    return DeploymentPlan(state.id, lines, state.deploys(views, services))


def _view(state: Deployment, name: str, spec: Spec, *, live: bool) -> PlanLine:
    before = next((old for old in state.views.values() if old["view"] == spec["view"]), None)
    if before is None:
        return PlanLine(kind="view", name=spec["view"], action="added", after=_version(name))
    if before == spec:
        return PlanLine(kind="view", name=spec["view"], action="unchanged", after=_version(name), live=live)
    return PlanLine(
        kind="view",
        name=spec["view"],
        action="changed",
        before=_version(named(before)),
        after=_version(name),
        what=changes(before, spec),
    )


def _service(state: Deployment, spec: Spec, in_force: Spec | None) -> PlanLine:
    name, before = spec["service"], state.services.get(spec["service"])
    if before is None:
        return PlanLine(kind="service", name=name, action="added", what=_names(spec))
    if before == spec:
        return PlanLine(
            kind="service",
            name=name,
            action="unchanged",
            live=in_force is not None and told_by(in_force) == spec,
        )
    return PlanLine(kind="service", name=name, action="changed", what=service_changes(before, spec))


def _names(service: Spec) -> list[str]:
    made = service.get("on_demand", {}).get("features", [])
    return [*(f"+ {name}" for name, _ in service["views"]), *(f"+ on-demand {feature['name']}" for feature in made)]


def _old(name: str, why: list[str]) -> PlanLine:
    view, _, version = name.rpartition("@")
    return PlanLine(kind="view", name=view, action="kept" if why else "retires", before=version, why=why)


def _needs(
    name: str, models: Mapping[str, Sequence[str]], services: Sequence[Spec], in_force: Mapping[str, Spec]
) -> list[str]:
    """Why a version that is not wanted stays; services that go over to another version need it for that time only."""
    wanted = {spec["service"] for spec in services}
    told = [f"model {version}" for version in models.get(name, ())]
    return told + [
        f"service {service}, until it has gone over"
        for service, spec in in_force.items()
        if service in wanted and name in views_of(spec)
    ]


def _version(name: str) -> str:
    return name.rpartition("@")[2]
