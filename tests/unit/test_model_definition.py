from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from headrace.bus.event import Event
from headrace.bus.stream import Stream
from headrace.errors import DefinitionError
from headrace.features.definitions.aggregates import Count, Histogram, Last, Max
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.service import FeatureService
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.windows import Rows, Session
from headrace.trainers.definitions import Gate, Label, Model, any_of, drift, performance, volume
from headrace.trainers.metrics.own_metric import own_metric


class Payment(Event):
    payment_id: int
    card: str
    amount: float
    tags: list[str]
    paid_at: datetime


class Chargeback(Event):
    payment_id: int
    reason: str
    fraud: bool
    reported_at: datetime


class Terminal(Event, frozen=True):  # type: ignore[misc]  # ADR 7: it works, type checkers refuse it
    terminal: str
    visits: int
    seen_at: datetime


payments = Stream("payments", Payment, event_time="paid_at")
chargebacks = Stream("chargebacks", Chargeback, event_time="reported_at")
terminals = Stream("terminals", Terminal, event_time="seen_at")
card = FeatureView("card", entity=Entity("card", str), source=payments, windows=["1h"], features={"count": Count()})
by_terminal = FeatureView(
    "terminal", entity=Entity("terminal", str), source=terminals, windows=["1h"], features={"count": Count()}
)


def fit(x: Any, y: Any, run: Any) -> Any:
    raise NotImplementedError


fraud = Model(
    "fraud",
    requests=payments,
    request_key="payment_id",
    requested_at="paid_at",
    features=FeatureService("fraud", [card]),
    request_features=["amount"],
    label=Label(chargebacks, value=col("fraud"), on="payment_id", within="30d", missing=False),
    train=fit,
    first_after=5_000,
    cooldown="7d",
    triggers=any_of(volume(labels=2_000), drift("score", psi=0.2, sample="14d"), performance("auc", drop=0.03)),
    gate=Gate("auc", rule="better", holdout="14d"),
    own_event="excluded",
)


def test_a_model_is_this_spec() -> None:
    spec = to_document(fraud.spec)
    assert json.loads(json.dumps(spec)) == spec
    assert spec == {
        "spec_version": 1,
        "model": "fraud",
        "requests": "payments",
        "key": "payment_id",
        "at": "paid_at",
        "features": "fraud",
        "views": [["card", card.version]],
        "request_features": ["amount"],
        "label": {
            "topic": "chargebacks",
            "value": col("fraud").tree,
            "on": "payment_id",
            "within_us": 30 * 86_400_000_000,
            "missing": "false",
        },
        "fit": f"{__name__}:fit",
        "first": 5_000,
        "cooldown": "7d",
        "daily_budget": None,
        "source": "events",
        "triggers": {
            "rule": "at_least",
            "count": 1,
            "rules": {
                "volume": {"rule": "volume", "labels": 2_000},
                "drift": {"rule": "drift", "on": "score", "psi": 0.2, "sample": "14d"},
                "performance": {"rule": "performance", "metric": "auc", "drop": 0.03},
            },
        },
        "gate": {
            "metric": "auc",
            "rule": "better",
            "holdout": "14d",
            "margin": 0.0,
            "serial_correlation": "measured",
        },
        "own_event": "excluded",
    }


def test_the_version_follows_the_definition() -> None:
    assert replace(fraud).version == fraud.version
    assert replace(fraud, first_after=5_001).version != fraud.version


def test_the_policy_is_the_models() -> None:
    assert (fraud.policy.first_after, fraud.policy.cooldown_us, fraud.policy.enough_labels) == (
        5_000,
        604_800_000_000,
        2_000,
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "1st model"}, "model name '1st model'"),
        (
            {"request_key": "amount"},
            r"request_key names 'amount'; the int/str fields of Payment \('payments'\) are \['payment_id', 'card'\]",
        ),
        ({"requested_at": "card"}, r"requested_at names 'card'; the datetime fields .* \['paid_at'\]"),
        ({"request_features": ["amuont"]}, "request_features names 'amuont'.*'amount'"),
        ({"request_features": ["tags"]}, "request_features names 'tags'"),
        ({"request_features": ["amount", "amount"]}, "twice"),
        (
            {"features": FeatureService("f", [by_terminal])},
            "view 'terminal' is looked up by 'terminal'.*it has.*'card'",
        ),
        ({"first_after": 0}, "first_after=0"),
        ({"learn_from": "served"}, r"learn_from='served'; choose one of \['events', 'logged'\]"),
        ({"cooldown": "a week"}, "'a week' is not a duration"),
        ({"label": Label(terminals, col("terminal") == "x", on="terminal", within="1d")}, "no field 'terminal'"),
    ],
)
def test_a_wrong_model_names_the_object_the_field_and_the_choices(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        replace(fraud, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"value": col("reason")}, "value is str; name its classes, such as"),
        ({"value": col("late")}, "late"),
        ({"on": "flight"}, "no field 'flight'"),
        ({"within": "0s"}, "within"),
        ({"missing": "zero"}, r"choose None.*or False"),
    ],
)
def test_a_wrong_label_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        replace(fraud.label, **change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metric": "f1"}, r"metric='f1'; choose one of \['auc', 'logloss', 'brier_score_loss', "),
        ({"metric": own_metric(min, higher_is_better=True, name="auc")}, "the name 'auc' of another"),
        ({"rule": "best"}, r"choose one of \['better', 'not_worse'\]"),
        ({"holdout": "13d"}, "14 or more whole days"),
        ({"holdout": "350h"}, "14 or more whole days"),
        ({"rule": "not_worse"}, "above 0 for not_worse"),
        ({"margin": -0.1}, "at least 0"),
        ({"margin": float("nan")}, "at least 0"),
        ({"block": "1m"}, r"has 20,160 blocks of '1m'; give at most 2,000"),
    ],
)
def test_a_wrong_gate_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=said):
        replace(fraud.gate, **change)


def test_a_view_of_the_requests_needs_a_rule_for_the_own_event() -> None:
    with pytest.raises(DefinitionError, match=r"own_event=None, and views \['card'\].*'included' .* or 'excluded'"):
        replace(fraud, own_event=None)
    with pytest.raises(DefinitionError, match="own_event='later'"):
        replace(fraud, own_event="later")  # type: ignore[arg-type]


def test_a_rule_for_the_own_event_without_such_a_view_is_refused() -> None:
    elsewhere = FeatureView(
        "card", entity=Entity("card", str), source=Stream("other", Payment, event_time="paid_at"), windows=["1h"],
        features={"count": Count()},
    )  # fmt: skip
    with pytest.raises(DefinitionError, match="own_event='excluded' has no effect"):
        replace(fraud, features=FeatureService("fraud", [elsewhere]))


def test_an_aggregate_that_cannot_leave_one_event_out_is_refused() -> None:
    kept = FeatureView(
        "card", entity=Entity("card", str), source=payments, windows=["1h"],
        features={"count": Count(), "high": Max("amount"), "last": Last("amount"), "sizes": Histogram("amount", [5.0])},
    )  # fmt: skip
    with pytest.raises(DefinitionError, match=r"\['card.high \(max\)', 'card.last \(last\)'\].*only count, sum, mean"):
        replace(fraud, features=FeatureService("fraud", [kept]))
    assert replace(fraud, features=FeatureService("fraud", [kept]), own_event="included").own_views == [kept]


def test_windows_of_rows_cannot_leave_one_event_out() -> None:
    kept = FeatureView(
        "card", entity=Entity("card", str), source=payments, windows=["1h", Rows(3), Session("30m")],
        features={"count": Count()},
    )  # fmt: skip
    with pytest.raises(DefinitionError, match=r"with the windows \['card: rows_3', 'card: session_30m'\]"):
        replace(fraud, features=FeatureService("fraud", [kept]))
    assert replace(fraud, features=FeatureService("fraud", [kept]), own_event="included").own_views == [kept]
