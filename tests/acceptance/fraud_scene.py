"""A test of the project that `headrace init --template payments` writes: from raw events to predictions.

test_fraud_scene.py runs it in such a project, with a Kafka, a Valkey, a worker and a trainer in processes of their own.
"""

from __future__ import annotations

import math
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from streams.payments import (  # type: ignore[import-not-found] # of the template
    Authorisation,
    Merchant,
    Payment,
    Settlement,
    authorisations,
    merchants,
    payments,
    settlements,
)

import headrace
from headrace.event_log.event_log import EventLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace import EventProducer

DAYS, A_DAY = 44, 150
WAITS = 75
"""The exit code of an audit while the log lacks records that were served."""
CATEGORIES = ["grocery", "travel", "gambling", "books"]
COUNTRIES = ["FR", "FR", "FR", "DE", "US"]
SHOPS = [f"shop-{number}" for number in range(30)]
CARDS = [f"card-{number}" for number in range(120)]


def category(shop: str) -> str:
    return CATEGORIES[SHOPS.index(shop) % len(CATEGORIES)]


def happens(now: datetime) -> tuple[list[Authorisation], list[Payment], list[Settlement]]:
    """Weeks of payments. A gambler abroad, a card that pays often, and a shop for travel are risky."""
    chance = np.random.default_rng(7)
    asked, paid, ended, last = list[Authorisation](), list[Payment](), list[Settlement](), dict[str, datetime]()
    for number in range(DAYS * A_DAY):
        at = now - timedelta(days=DAYS) + timedelta(days=number / A_DAY)
        card, shop = CARDS[int(chance.integers(len(CARDS)) * chance.random())], str(chance.choice(SHOPS))
        country, amount = str(chance.choice(COUNTRIES)), round(float(chance.gamma(2.0, 30.0)), 2)
        device = card.replace("card", "phone" if chance.random() < 0.8 else "laptop")
        own = (number, card, device, shop)
        asked.append(Authorisation(*own, country, amount, at))
        paid.append(Payment(*own, category(shop), country, "FR", amount, at + timedelta(seconds=5)))
        often = at - last.get(card, at - timedelta(days=9)) < timedelta(hours=2)
        risk = -4.0 + 2.0 * (category(shop) == "gambling") + 1.5 * (country != "FR") + 1.5 * often + amount / 100
        is_fraud = bool(chance.random() < 1 / (1 + math.exp(-risk)))
        ended.append(Settlement(number, at + timedelta(days=float(chance.uniform(0.5, 3.5))), is_fraud))
        last[card] = at
    return asked, paid, [each for each in ended if each.settled_at < now]


def send(producer: EventProducer, stream: headrace.Stream, time: str, events: Sequence[headrace.Event]) -> None:
    for event in sorted(events, key=lambda each: getattr(each, time)):
        producer.send(stream, event, timestamp=getattr(event, time))


def enriched(project: Any, count: int) -> None:
    """Wait until so many payments have their features, and every view has counted them."""
    log = EventLog(project.settings.event_log, namespace=project.settings.namespace)
    until = time.monotonic() + 150
    while not log.exists("shop.payments.usual") or log.read("shop.payments.usual").height < count:
        assert time.monotonic() < until, "payments wait for their features"
        time.sleep(0.5)
    project.counted()


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "headrace", *arguments], capture_output=True, text=True, check=False, timeout=120
    )


def test_payments_become_features_a_model_and_predictions(
    headrace_project: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADRACE_TICK", "1s")
    now = datetime.now(UTC)
    asked, paid, ended = happens(now)
    with headrace_project.connect() as hr:
        producer = hr.producer()
        opened = now - timedelta(days=DAYS)
        rows = [Merchant(shop, category(shop), "FR", opened, opened) for shop in SHOPS]
        send(producer, merchants, "changed_at", rows)
        send(producer, authorisations, "asked_at", asked)
        send(producer, payments, "paid_at", paid)
        send(producer, settlements, "settled_at", ended)
        producer.flush()
        with headrace_project.worker(), headrace_project.running("process"):
            enriched(headrace_project, len(paid) - 1)  # the newest one waits for a later one
            with headrace_project.running("trainer"):
                learns(headrace_project, hr, asked)


def learns(headrace_project: Any, hr: Any, asked: Sequence[Authorisation]) -> None:
    """One version is asked for by a trigger, passes its gate, is swapped in, and predicts."""
    predictor = hr.predictor("fraud", fallback=0.5, trusted=[])
    assert predictor.predict(request(asked[-1])).version == 0
    live = predictor.wait_until_ready("180s", version=1)
    assert live.published.gate["verdict"] == "passed"
    predicts(predictor, asked)
    unseen(headrace_project, hr, predictor)
    online_is_offline(headrace_project, hr, asked)


def request(of: Authorisation, **change: Any) -> dict[str, Any]:
    return (
        msgspec.structs.asdict(of) | {"payment_id": of.payment_id + 1_000_000, "asked_at": datetime.now(UTC)} | change
    )


def predicts(predictor: Any, asked: Sequence[Authorisation]) -> None:
    """Payments in gambling shops abroad are riskier than those in others at home."""
    risky = [request(each, merchant="shop-2", country="US") for each in asked[-40:]]
    usual = [request(each, merchant="shop-0", country="FR") for each in asked[-40:]]
    answers = predictor.predict_many([*risky, *usual])
    assert {(answer.version, answer.error) for answer in answers} == {(1, None)}
    values = [answer.value for answer in answers]
    assert np.mean(values[:40]) > 2 * np.mean(values[40:])


def unseen(project: Any, hr: Any, predictor: Any) -> None:
    """A category, a country and a device that no row of the training set has count, and raise nothing."""
    at = datetime.now(UTC)
    new = Payment(2_000_000, "card-new", "watch-1", "shop-new", "crypto", "XX", "FR", 10.0, at)
    project.send(payments, new, timestamp=at)
    project.send(merchants, Merchant("shop-new", "crypto", "XX", at, at), timestamp=at)
    project.counted()
    asked = Authorisation(2_000_001, "card-new", "watch-1", "shop-new", "XX", 10.0, datetime.now(UTC))
    answer = predictor.predict(msgspec.structs.asdict(asked))
    assert (answer.version, answer.error) == (1, None)
    assert 0 < answer.value < 1
    values = {"amount": 10.0, "device": "watch-1", "country": "XX"}
    (found,) = hr.features().get("card_risk", {"card": "card-new", "merchant": "shop-new", **values}).to_dicts()
    assert found["habits__categories_30d"] == ["crypto"]
    assert (found["habits__of_other_30d"], found["habits__of_grocery_30d"]) == (1, 0)
    assert (found["profile__category"], found["habits__country_30d"]) == ("crypto", "XX")
    assert (found["known_device"], found["same_country"]) == (True, True)


def online_is_offline(project: Any, hr: Any, asked: Sequence[Authorisation]) -> None:
    """What a look-up answers is what a training set has at the same moment, and what was served is in the log."""
    enriched(project, DAYS * A_DAY)
    at = datetime.now(UTC)
    rows = [request(each, asked_at=at) for each in asked[-50:]]
    columns = ("card", "device", "merchant", "amount", "country")
    entities = [{name: row[name] for name in columns} for row in rows]
    online = hr.features().get("card_risk", entities, as_of=at)
    found = {str(status) for row in range(len(rows)) for status in online.statuses(row).values()}
    assert found <= {"present", "missing"}
    until = time.monotonic() + 60
    while (audited := command("audit", "--model", "fraud")).returncode == WAITS:
        assert time.monotonic() < until, audited.stdout + audited.stderr
    assert audited.returncode == 0, audited.stdout + audited.stderr
    assert "81 vectors checked, 0 mismatched" in audited.stdout
    assert max(row["surprises__highest_z_30d"] or 0 for row in online.to_dicts()) > 2
    made = headrace.training_set("card_risk", spine=pl.DataFrame(entities).with_columns(at=pl.lit(at)), time="at")
    for found, wanted in zip(online.to_dicts(), made.to_polars().to_dicts(), strict=True):
        for name, value in found.items():
            assert value == (pytest.approx(wanted[name], rel=1e-9) if isinstance(value, float) else wanted[name]), name
