"""Definitions of enriched streams: what they are, what they refuse, and what a project finds of them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import msgspec
import pytest

from headrace import Count, Entity, Event, FeatureService, FeatureView, LastN, Max, Mean, Stream, Table, after, col
from headrace.app.project.project import collect
from headrace.bus.event import encode
from headrace.errors import DefinitionError


class Payment(Event):
    card_id: str
    shop: str
    amount: float | None
    paid_at: datetime
    number: int = 0


payments = Stream(
    "card.payments", Payment, event_time="paid_at", key="card_id", lateness="2h", available_at=after("5m")
)


class Purchase(Event):
    card: str
    amount: float
    at: datetime


purchases = Stream("purchases", Purchase, event_time="at")
card = FeatureView(
    "card", Entity("card"), purchases, ["1d"], {"mean": Mean("amount"), "last": LastN("amount", 2, as_list=True)}
)
plain = FeatureService("card_usual", [card])
compared = payments.with_features(plain, keys={"card": "card_id"})


def test_an_enriched_stream_has_the_times_and_the_key_of_its_origin() -> None:
    assert compared.topic == "card.payments.card_usual"
    spec = compared.spec
    assert (spec.event_time, spec.key, spec.lateness_us) == ("paid_at", ("card_id",), 7_200_000_000)
    assert spec.available_at == "event_time+5m"
    assert list(spec.kinds) == ["card_id", "shop", "amount", "paid_at", "number", "card__mean_1d", "card__last_1d"]
    assert spec.kinds["card__last_1d"] == "list(float)"
    assert {"card__mean_1d", "card__last_1d"} <= spec.nullable
    assert payments.with_features(plain, keys={"card": "card_id"}, topic="others").topic == "others"


def test_an_event_is_one_of_the_origin_with_features_that_may_be_null() -> None:
    row = b'{"card_id": "c7", "shop": "s1", "amount": 5.0, "paid_at": "2026-03-02T09:00:00Z", "card__mean_1d": 4.5}'
    event: Any = msgspec.json.decode(row, type=compared.event)
    assert (event.card__mean_1d, event.card__last_1d) == (4.5, None)
    assert isinstance(event, Payment)
    assert event.paid_at == datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert msgspec.json.decode(encode(event), type=compared.event) == event


def test_views_take_an_enriched_stream() -> None:
    view = FeatureView("shop", Entity("shop"), compared, ["1h"], {"n": Count(), "highest": Max("card__mean_1d")})
    assert view.spec.stream.topic == compared.topic


IN_TEXT = FeatureService("far", [card], on_demand={"d": col("shop") - 1}, request={"shop": float})
NOT_NULL = FeatureService("z", [card], on_demand={"d": col("amount") - 1}, request={"amount": float})


@pytest.mark.parametrize(
    ("origin", "service", "more", "said"),
    [
        (payments, plain, {}, "join key 'card' .*has no field 'card'"),
        (payments, plain, {"keys": {"card": "number"}}, "join key 'card' is str, and the field 'number' is int"),
        (payments, plain, {"keys": {"cart": "card_id"}}, r"keys names 'cart'.*it has \['card'\]"),
        (payments, plain, {"keys": "card"}, "keys='card' is a str; write a dict"),
        (payments, card, {}, "write a feature service"),
        (purchases, plain, {"topic": purchases.topic}, "is the one that the events come from"),
        (purchases, IN_TEXT, {}, "reads the request's 'shop'.*no field 'shop'"),
        (payments, IN_TEXT, {"keys": {"card": "card_id"}}, "field 'shop' is str, and service 'far' has it as float"),
        (payments, NOT_NULL, {"keys": {"card": "card_id"}}, r"'amount' is float \| None, and service 'z' has it as fl"),
        (compared, plain, {"keys": {"card": "card_id"}}, "has a field 'card__mean_1d'"),
        (purchases, plain, {"own_event": "never"}, "own_event='never'; write 'excluded' or 'included'"),
        (purchases, plain, {"silent_after": "soon"}, "silent_after: 'soon'"),
        (purchases, plain, {"silent_after": "0s"}, "write a duration above 0s"),
        (Table("purchases", Purchase, key="card"), plain, {}, "a table is no stream of events"),
    ],
)
def test_a_wrong_definition_says_what_to_write(origin: Stream, service: Any, more: dict[str, Any], said: str) -> None:
    with pytest.raises(DefinitionError, match=re.compile(said, re.DOTALL)):
        origin.with_features(service, **more)


def test_a_project_has_the_processors_of_enriched_streams_and_all_that_they_are_made_from() -> None:
    of_shops = FeatureView("shop", Entity("shop"), compared, ["1h"], {"n": Count()})
    module = ModuleType("streams")
    module.twice = compared.with_features(FeatureService("shops", [of_shops]))  # type: ignore[attr-defined]
    found = collect([module])
    assert set(found.processors) == {"card_payments_card_usual_shops", "card_payments_card_usual"}
    assert {"card.payments", "card.payments.card_usual", "card.payments.card_usual.shops"} <= set(found.streams)
    of_card = found.processors["card_payments_card_usual"]
    assert of_card.source is payments
    assert of_card.into == (compared,)
    with pytest.raises(DefinitionError, match="run `headrace process`"):
        of_card([])
