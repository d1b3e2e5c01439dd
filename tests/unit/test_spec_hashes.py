"""The hashes and bytes of specs are public: they name keys in Redis, and stand in manifests and model events.

The literals in tests/support/golden_specs.py were recorded when specs were plain dicts. They never change.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from headrace.bus.event import Event
from headrace.bus.stream import Stream, after
from headrace.features.definitions.aggregates import (
    ApproxDistinct,
    Count,
    DecayedSum,
    First,
    Histogram,
    Last,
    LastN,
    Max,
    Mean,
    Min,
    Quantile,
    Std,
    Sum,
    Variance,
)
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.spec import spec_hash, to_document
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Lifetime, Sliding, Tumbling
from headrace.streams.deployments.deployment import Deployed, encode
from headrace.trainers.definitions import (
    Gate,
    Label,
    Model,
    all_of,
    any_of,
    at_least,
    consecutive,
    drift,
    hysteresis,
    performance,
    schedule,
    volume,
)
from streams import arrivals, departures, weather
from tests.acceptance.card_payments import application
from tests.support import feast_scene, first_flights, lookups_scene, orders_model, rollout_scene
from tests.support.crash import definitions as crash
from tests.support.first_flights import delay, delay_features
from tests.support.golden_specs import EXACT, HASHES, WIRE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.trainers.model_spec import ModelSpec
    from headrace.trainers.triggers.trigger_rule import TriggerRule


class Reading(Event):
    sensor: int
    room: str | None
    value: float
    level: int | None
    is_on: bool
    tags: list[str]
    seen_at: datetime
    known_at: datetime


READINGS = Stream(
    "readings", Reading, event_time="seen_at", key=["sensor", "room"], lateness="10m", tolerance=timedelta(seconds=90)
)
STREAMS = {
    "scheduled": first_flights.scheduled,
    "departures": departures,
    "arrivals": arrivals,
    "weather": weather,
    "readings": READINGS,
    "available at a field": Stream("readings", Reading, event_time="seen_at", available_at="known_at"),
    "loaded in bulk": Stream("readings", Reading, event_time="seen_at", available_at=after("5m")),
    "loaded in bulk, 60m": Stream("readings", Reading, event_time="seen_at", available_at=after("60m")),
    "payments": crash.payments("n"),
}
ENTITIES = {
    "one key": Entity("origin", str),
    "int": Entity("sensor", int),
    "two keys": Entity("route", keys=["origin", "dest"]),
    "keys of two types": Entity("place", keys={"sensor": int, "room": str}),
}
AGGREGATES: dict[str, Any] = {
    "count": Count(),
    "count of a value": Count("level"),
    "count where": Count(where=col("value") > 1.5),
    "sum": Sum("level"),
    "sum of an expression": Sum(col("value") * 2 + 1, where=col("room").is_in(["kitchen", "café"])),
    "mean": Mean("value"),
    "mean of a bool": Mean(col("value") > 15),
    "variance": Variance("value"),
    "std": Std("value"),
    "min": Min("value"),
    "max": Max("level"),
    "first": First("value"),
    "last": Last("is_on", where=~col("is_on").is_null()),
    "last_n": LastN("value", 3),
    "decayed_sum": DecayedSum("value", "7d"),
    "decayed_sum of a timedelta": DecayedSum("value", timedelta(hours=12)),
    "approx_distinct": ApproxDistinct("room"),
    "approx_distinct precise": ApproxDistinct("room", precision=14),
    "quantile": Quantile("value", 0.5),
    "quantiles": Quantile("value", [0.5, 0.99, 0.999], error=0.05),
    "histogram": Histogram("value", [0, 1.5, 10]),
    "histogram of large edges": Histogram("value", [1e-7, 1e16, 1e22]),
}
WINDOWS: dict[str, Any] = {
    "1h": "1h",
    "90s": "90s",
    "timedelta": timedelta(days=1),
    "sliding": Sliding("1h", every="20m"),
    "tumbling": Tumbling("7d"),
    "lifetime": Lifetime(),
}
ROOM = Entity("room", str)
VIEWS = {
    **{f"aggregate {name}": FeatureView("v", ROOM, READINGS, ["1h"], {"f": each}) for name, each in AGGREGATES.items()},
    **{f"window {name}": FeatureView("v", ROOM, READINGS, [each], {"f": Count()}) for name, each in WINDOWS.items()},
    "every setting": FeatureView(
        "full", Entity("place", keys={"sensor": int, "room": str}), READINGS, ["1h", Lifetime()],
        {"n": Count(), "half": Sum("half")}, max_age="2d", where=col("value") > 0,
        derived={"half": col("value") / 2, "night": col("seen_at").hour() < 6}, history="20m", delay="250ms",
        clock="stream",
    ),
    **{f"flights {view.name}": view for view in delay_features.views},
    **{f"lookups {view.name}": view for view in (lookups_scene.shops, lookups_scene.tills)},
    **{f"feast {view.name}": view for view in (feast_scene.shops, feast_scene.tills, feast_scene.numbered)},
    **{f"rollout {n}": view for n, view in enumerate((rollout_scene.OLD, rollout_scene.NEW, rollout_scene.OTHER))},
    **{f"card payments {view.name}": view for view in application("n").features.views},
    "crash": crash.users("n"),
    "orders": orders_model.shop,
}  # fmt: skip
SERVICE = FeatureService("comfort", [VIEWS["every setting"]])
ON_DEMAND = FeatureService(
    "comfort",
    [VIEWS["every setting"]],
    on_demand={
        "ratio": col("price") / col("full__half_1h"),
        "is_dear": (col("ratio") > 2).fill_null(value=False),
        "early": col("asked_at").hour() < 6,
    },
    request={"price": float, "asked_at": datetime | None},
)
SERVICES = {
    "plain": SERVICE,
    "on demand": ON_DEMAND,
    "flights": delay_features,
    "lookups": lookups_scene.risk,
    "feast": feast_scene.risk,
    "card payments": application("n").features,
    "crash": crash.service("n"),
}
TRIGGERS: dict[str, TriggerRule] = {
    "volume": volume(labels=2_000),
    "drift": drift("score", psi=0.2, sample="14d"),
    "drift at a rate": drift("score", psi=0.2, sample="14d", false_alarms="3/year"),
    "performance": performance("auc", drop=0.03),
    "performance against": performance("auc", drop=0.01, against="refit", days=28, outcomes=6_000),
    "schedule": schedule(every=timedelta(days=30)),
    "any_of": any_of(volume(labels=2_000), drift("score", psi=0.2, sample="14d")),
    "all_of": all_of(volume(labels=2_000), schedule(every="7d"), name="both"),
    "at_least": at_least(2, volume(labels=1), volume(labels=2, name="more"), any_of(performance("logloss", drop=0.1))),
    "consecutive": consecutive(performance("auc", drop=0.03), 3),
    "hysteresis": hysteresis(any_of(volume(labels=2_000), performance("auc", drop=0.03)), rearm=0.25),
}
GATES = {
    "better": Gate("auc", serial_correlation="ignored"),
    "not worse": Gate("logloss", "not_worse", timedelta(days=21), 0.01, serial_correlation="ignored"),
    "manual": Gate("auc", approve="manual", serial_correlation="ignored"),
    "without a word": Gate("auc"),
    "of entities": Gate("auc", block="room"),
}
LABEL = Label(READINGS, value=col("value") > 15, on="sensor", within="36h")


def fit(x: Any, y: Any, run: Any) -> Any:
    raise NotImplementedError


def model(triggers: TriggerRule, gate: Gate = GATES["better"], features: FeatureService = SERVICE) -> Model:
    return Model(
        "warm", requests=READINGS, request_key="sensor", requested_at="seen_at", features=features, label=LABEL,
        train=fit, triggers=triggers, gate=gate, own_event="included",
    )  # fmt: skip


@dataclass(frozen=True)
class WithoutOwnEvent:
    """A model whose spec is without the rule for the own event: its golden is older than the rule."""

    model: Model

    @property
    def spec(self) -> ModelSpec:
        return msgspec.structs.replace(self.model.spec, own_event=msgspec.UNSET)

    @property
    def version(self) -> str:
        return self.spec.version


def ignoring(model: Model) -> Model:
    """The model with the gate that it had before measuring was the default: its spec is as it was."""
    return replace(model, gate=replace(model.gate, serial_correlation="ignored"))


class Asked(Event):
    sensor: int
    room: str
    price: float
    hour: int
    asked_at: datetime


ASKED = Stream("asked", Asked, event_time="asked_at", key="sensor")
MODELS = {
    "own event": model(TRIGGERS["volume"]),
    **{f"trigger {name}": WithoutOwnEvent(model(rule)) for name, rule in TRIGGERS.items()},
    **{f"gate {name}": WithoutOwnEvent(model(TRIGGERS["volume"], gate)) for name, gate in GATES.items()},
    "every setting": Model(
        "warm-2", requests=ASKED, request_key="sensor", requested_at="asked_at", features=ON_DEMAND,
        request_features=["hour"], label=LABEL, train=fit, first_after=500, cooldown="36h", daily_budget=3,
        learn_from="logged", triggers=TRIGGERS["volume"], gate=GATES["better"],
    ),
    "flights": delay,
    "card payments": WithoutOwnEvent(application("n").model),
    "orders": WithoutOwnEvent(orders_model.model),
    "flights, ignored": ignoring(delay),
    "card payments, ignored": WithoutOwnEvent(ignoring(application("n").model)),
    "orders, ignored": WithoutOwnEvent(ignoring(orders_model.model)),
}  # fmt: skip
DEFINITIONS: dict[str, Mapping[str, Any]] = {
    "stream": STREAMS, "entity": ENTITIES, "view": VIEWS, "service": SERVICES, "model": MODELS,
    "label": {"drop": LABEL, "flights": delay.label}, "gate": GATES, "trigger": TRIGGERS,
}  # fmt: skip


def document(definition: Any) -> dict[str, Any]:
    """The spec as plain JSON."""
    return to_document(definition.spec)


def wire(definition: Any) -> bytes:
    """The spec as it is sent."""
    return msgspec.json.encode(document(definition))


def canonical(definition: Any) -> str:
    return json.dumps(document(definition), sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def deployed() -> bytes:
    views = [VIEWS["every setting"].spec, VIEWS["aggregate quantiles"].spec]
    change = Deployed(
        id="d1", namespace="here", expects=None, views=views, services=[SERVICE.spec, ON_DEMAND.spec], at_us=7
    )
    return encode(change)


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, found in DEFINITIONS.items() for name in found])
def test_a_spec_has_the_hash_that_it_always_had(kind: str, name: str) -> None:
    definition = DEFINITIONS[kind][name]
    assert spec_hash(definition.spec) == HASHES[kind][name]
    assert hashlib.sha256(canonical(definition).encode()).hexdigest()[:16] == HASHES[kind][name]


@pytest.mark.parametrize("kind", ["view", "service", "model"])
def test_a_version_is_the_hash_of_the_spec(kind: str) -> None:
    assert {name: each.version for name, each in DEFINITIONS[kind].items()} == HASHES[kind]


@pytest.mark.parametrize(("kind", "name"), EXACT)
def test_a_spec_has_this_canonical_json(kind: str, name: str) -> None:
    assert canonical(DEFINITIONS[kind][name]) == EXACT[kind, name]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, found in WIRE.items() for name in found])
def test_a_spec_has_these_bytes_on_the_wire(kind: str, name: str) -> None:
    assert hashlib.sha256(wire(DEFINITIONS[kind][name])).hexdigest()[:16] == WIRE[kind][name]


def test_a_deployment_has_these_bytes() -> None:
    assert hashlib.sha256(deployed()).hexdigest()[:16] == "ad733567d7beae34"
