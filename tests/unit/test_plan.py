"""What a plan says of a deployment before it is made."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.features.definitions.aggregates import Sum
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.store_documents import ServiceDocument
from headrace.streams.deployments.plan import make_plan
from headrace.streams.deployments.spec_diff import changes
from tests.support.crash.definitions import payments
from tests.support.rollout_scene import (
    NEW,
    OLD,
    OLD_NAME,
    OTHER,
    Scene,
    made,
    service,
)

if TYPE_CHECKING:
    from headrace.features.definitions.service_spec import ServiceSpec


def served(spec: ServiceSpec) -> dict[str, ServiceDocument]:
    """What the online store has of the services."""
    return {spec.name: ServiceDocument.of(spec, 1)}


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_plan_says_what_changes_and_which_old_versions_stay_and_why(scene: Scene) -> None:
    worker = scene.worker(OLD)
    state, wanted = worker.deployment, [NEW.spec, OTHER.spec]
    in_force = served(service(OLD))
    plan = make_plan(state, wanted, [service(NEW, OTHER)], models={}, in_force=in_force, live={})
    told = {(line.kind, line.name, line.action): line for line in plan.lines}
    assert set(told) == {
        ("view", "user", "changed"), ("view", "user", "kept"), ("view", "other", "added"),
        ("service", "risk", "changed"),
    }  # fmt: skip
    changed = told["view", "user", "changed"]
    assert (changed.before, changed.after) == (OLD.version, NEW.version)
    assert changed.what == ["+ window 1d", "+ feature cents"]
    assert told["service", "risk", "changed"].what == ["+ other", f"user {OLD.version} → {NEW.version}"]
    assert told["view", "user", "kept"].why == ["service risk, until it has gone over"]
    assert (plan.is_deployed, plan.is_live, plan.expects) == (False, False, worker.deployment.id)
    models = {OLD_NAME: ["m 1"]}
    kept = make_plan(state, wanted, [service(NEW)], models=models, in_force=served(service(NEW)), live={}).lines[-1]
    assert (kept.action, kept.why) == ("kept", ["model m 1"])
    gone = make_plan(state, wanted, [service(NEW)], models={}, in_force=served(service(NEW)), live={}).lines[-1]
    assert (gone.action, gone.before) == ("retires", OLD.version)


def test_a_plan_shows_changed_on_demand_features(scene: Scene) -> None:
    state = scene.worker(OLD).deployment
    n = col("user__n_1h")
    both = {"more": n + 1, "dear": col("price") > n}

    def told(before: ServiceSpec, after: ServiceSpec) -> list[str]:
        deployed = replace(state, current=msgspec.structs.replace(state.current, services=[before]))  # type: ignore[type-var]
        (line,) = (
            line
            for line in make_plan(deployed, [OLD.spec], [after], models={}, in_force=served(before), live={}).lines
            if line.kind == "service"
        )
        assert (line.action, line.live) == (("unchanged", True) if before == after else ("changed", None))
        return line.what

    price = {"price": float}
    assert told(service(OLD), made(price, **both)) == [
        "+ request value price", "+ on-demand feature more", "+ on-demand feature dear",
    ]  # fmt: skip
    assert told(made(price, **both), made(more=n + 2)) == [
        "- request value price", "- on-demand feature dear", "on-demand feature more: value",
    ]  # fmt: skip
    assert told(made(price, **both), made(price, **dict(reversed(both.items())))) == ["order of on-demand features"]
    assert told(made(more=n), made(more=n)) == []
    in_force = served(service(OLD))
    deployed = replace(state, current=msgspec.structs.replace(state.current, services=[made(more=n)]))  # type: ignore[type-var]
    line = make_plan(deployed, [OLD.spec], [made(more=n)], models={}, in_force=in_force, live={}).lines[-1]
    assert (line.kind, line.action, line.live) == ("service", "unchanged", False)


def test_a_plan_of_what_is_deployed_changes_nothing_and_says_whether_it_is_live(scene: Scene) -> None:
    state = scene.worker(OLD).deployment
    plans = [
        make_plan(
            state,
            [OLD.spec],
            [service(OLD)],
            models={},
            in_force=served(service(OLD)),
            live={OLD_NAME: live},
        )
        for live in (False, True)
    ]
    assert [plan.is_deployed for plan in plans] == [True, True]
    assert [plan.is_live for plan in plans] == [False, True]
    assert {line.action for line in plans[0].lines} == {"unchanged"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, []),
        ({"windows": ["6h"]}, ["+ window 6h", "- window 1h"]),
        ({"features": {"n": Sum("cents")}}, ["feature n: aggregate count → sum, value"]),
        ({"max_age": "2d"}, ["max_age none → 2d"]),
        ({"history": "20m"}, ["history 0ms → 20m"]),
        ({"clock": "stream"}, ["clock wall → stream"]),
        ({"source": payments("u")}, ["stream t.payments → u.payments"]),
        ({"entity": Entity("cents", int)}, ["entity user:str → cents:int"]),
    ],
)
def test_changes_are_told_in_words(change: dict[str, Any], told: list[str]) -> None:
    assert changes(OLD.spec, replace(OLD, **change).spec) == told
