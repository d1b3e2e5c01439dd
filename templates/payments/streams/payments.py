"""The topics of a shop. A payment may be sent twice, so its id is unique within a day."""

from datetime import datetime

from headrace import Event, Stream, Table


class Authorisation(Event):
    """The request to predict: a card is to pay."""

    payment_id: int
    card: str
    device: str
    merchant: str
    country: str  # where the card pays
    amount: float
    asked_at: datetime


class Payment(Event):
    payment_id: int
    card: str
    device: str
    merchant: str
    category: str
    country: str
    home: str  # the country of the card
    amount: float
    paid_at: datetime


class Refund(Event):
    payment_id: int
    card: str
    merchant: str
    amount: float
    paid_at: datetime  # of the payment that is refunded
    refunded_at: datetime


class Settlement(Event):
    payment_id: int
    settled_at: datetime
    fraud: bool


class Merchant(Event):
    """A row of the table of merchants; a new one replaces the row before it."""

    merchant: str
    category: str
    country: str
    opened_at: datetime
    changed_at: datetime


authorisations = Stream("shop.authorisations", Authorisation, event_time="asked_at", key="card")
payments = Stream("shop.payments", Payment, event_time="paid_at", key="card", unique="payment_id", within="1d")
refunds = Stream("shop.refunds", Refund, event_time="refunded_at", key="card")
settlements = Stream("shop.settlements", Settlement, event_time="settled_at", key="payment_id")
merchants = Table("shop.merchants", Merchant, key="merchant", event_time="changed_at")
