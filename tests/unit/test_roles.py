"""Roles: what a definition may say, and what readers of the event log make of a view of several streams."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from headrace.base.times import epoch_us
from headrace.bus.event import Event, encode
from headrace.bus.places import Places
from headrace.bus.source_partition import NO_CLOCK, SourcePartition
from headrace.bus.stream import Stream
from headrace.errors import DefinitionError
from headrace.event_log.event_log import EventLog
from headrace.event_log.log_writer import LogWriter
from headrace.event_log.query_span import QuerySpan
from headrace.features.definitions.aggregates import Count, Last, Max, Sum, Variance
from headrace.features.definitions.entity import Entity
from headrace.features.definitions.expression import col
from headrace.features.definitions.role import Role
from headrace.features.definitions.spec import to_document
from headrace.features.definitions.view import FeatureView
from headrace.features.definitions.view_spec import ViewSpec
from headrace.features.kernel.tile_kernel import kernel
from headrace.features.offline.entity_rows import entity_rows
from headrace.features.offline.feature_history import FeatureHistory
from headrace.features.offline.feature_table import FeatureTable
from headrace.streams.deployments.deployment import Deployed, decode
from headrace.streams.deployments.deployment import encode as encode_deployment
from headrace.streams.deployments.estimate import estimate
from headrace.streams.deployments.spec_diff import changes
from headrace.streams.plane.record_judge import PartitionRecords, RecordJudge
from headrace.trainers.audit.tolerance import tolerances
from headrace.trainers.definition_checks import check_own_event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Money = Annotated[Decimal, Places(2)]
AT = datetime(2020, 1, 1, tzinfo=UTC)


class CardPayment(Event):
    card: str
    amount: Money
    at: datetime
    shop: str = "x"


class CardTransfer(Event):
    sender: str
    receiver: str | None
    amount: Money
    sent_at: datetime


payments = Stream("card.payments", CardPayment, event_time="at")
transfers = Stream("card.transfers", CardTransfer, event_time="sent_at")
OF_PAYMENTS, OF_TRANSFERS = SourcePartition(0, bytes([2]) * 16), SourcePartition(0, bytes([1]) * 16)


def view(source: Any, **changed: Any) -> FeatureView:
    """A view of cards over some sources."""
    features: dict[str, Any] = {"n": Count(), "change": Sum("amount"), "last": Last("amount")}
    given = {"windows": ["1h", "1d"], "features": features} | changed
    return FeatureView("card", entity=Entity("card", str), source=source, **given)


balance = view(
    [Role(payments, amount=-col("amount")), Role(transfers, card="sender", amount=-col("amount")),
     Role(transfers, card="receiver")]
)  # fmt: skip


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Role("payments"), "role: stream='payments' is a str; write a Stream"),  # type: ignore[arg-type]
        (lambda: Role(transfers, card="payer"), "role of 'card.transfers': there is no column 'payer'; there are"),
        (lambda: Role(transfers, amount=3), r"role of 'card.transfers': columns\['amount'\]=3 is an int"),  # type: ignore[arg-type]
        (lambda: Role(transfers, event_time="amount"), "event_time='amount' is decimal; write the name of a datetime"),
        (lambda: Role(transfers, 5), "names=5 is an int; write a dict of columns"),  # type: ignore[arg-type]
        (lambda: Role(transfers, {"__time": "sender"}), r"columns \['__time'\]: .* may not begin with '__'"),
        (lambda: Role(transfers, where="shop"), "where='shop' is a str; write a condition"),  # type: ignore[arg-type]
        (lambda: Role(transfers, event_time=col("sent_at")), "event_time=.* write the name of a datetime"),  # type: ignore[arg-type]
        (lambda: view([]), r"view 'card': source=\[\]: write a Stream, a Role, or a list"),
        (lambda: view("payments"), "view 'card': source='payments' is a str; write a Stream, or a list of them"),
        (lambda: view([payments, "x"]), "write a Stream, a Role, or a list of them"),
        (lambda: view([payments, transfers]), "view 'card': join key 'card' .* 'card.transfers' has no field 'card'"),
        (lambda: view([payments, Role(transfers, card=col("amount") * 2)]), "is str, in 'card.transfers' it is float"),
        (
            lambda: view([payments, Role(transfers, card="sender")], where=col("shop") == "y"),
            "need the column 'shop', of one kind: in 'card.payments' it is str; 'card.transfers' has no field 'shop'",
        ),
        (
            lambda: view([payments, Role(transfers, card="sender", amount=col("amount") * 2)]),
            r"column 'amount', of one kind: in 'card.payments' it is decimal\(2\); in 'card.transfers' it is float",
        ),
        (
            lambda: Role(payments, where=col("shop")),
            "role of 'card.payments': where is str; a filter is bool",
        ),
        (lambda: Role(payments, takes_back="yes"), "takes_back='yes' is a str; write True or False"),  # type: ignore[arg-type]
        (
            lambda: view([payments, Role(payments, takes_back=True)]),
            "view 'card': a role takes rows back, and 'last' is a last: only count, sum, mean, variance, std, hist",
        ),
        (lambda: view([payments, replace(payments, lateness="2h")]), "two streams of the topic 'card.payments'"),
    ],
)
def test_a_wrong_source_is_an_error_that_names_it(make: Any, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        make()


def test_a_plain_view_has_no_roles_in_its_spec_and_one_in_a_list_means_the_same() -> None:
    plain, listed = view(payments), view([payments])
    assert "roles" not in to_document(plain.spec)
    assert plain.spec.kinds == listed.spec.kinds
    assert balance.spec.topics == ["card.payments", "card.transfers"]
    assert balance.streams == [payments, transfers]
    again = msgspec.convert(to_document(balance.spec), ViewSpec)
    assert (again, again.version) == (balance.spec, balance.version)


def test_the_difference_of_two_views_names_streams_and_roles() -> None:
    assert changes(view(payments).spec, balance.spec) == ["stream card.payments → card.payments, card.transfers"]
    one, other = view([Role(transfers, card="sender")]), view([Role(transfers, card="receiver")])
    assert changes(one.spec, other.spec) == ["roles"]
    assert changes(balance.spec, balance.spec) == []


def test_a_deployment_with_roles_is_read_again() -> None:
    deployed = Deployed(id="1", namespace="n", expects=None, views=[balance.spec], services=[], at_us=0)
    assert decode(encode_deployment(deployed)) == deployed


def test_a_model_that_leaves_its_own_event_out_refuses_roles() -> None:
    with pytest.raises(DefinitionError, match=r"own_event='excluded' is not possible with \['card'\]: a view with rol"):
        check_own_event("m", "card.transfers", "excluded", [balance])
    check_own_event("m", "card.transfers", "included", [view([payments, Role(transfers, card="sender")])])


def test_a_role_has_its_filter_and_its_sign_in_the_spec_only_if_they_are_declared() -> None:
    assert to_document(Role(payments).spec).keys() == {"source", "columns"}
    back = to_document(Role(payments, {"card": "shop"}, where=col("shop") == "x", takes_back=True).spec)
    assert back["takes_back"] is True
    assert back["where"] == ["eq", ["col", "shop"], ["lit", "x"]]
    assert back["columns"] == [["card", ["col", "shop"]]]


# -- the event log ----------------------------------------------------------------------------------------------------


def append(log: EventLog, stream: Stream, source: SourcePartition, events: Sequence[Event]) -> None:
    """Log events, a minute apart."""
    stamps = epoch_us(AT) + np.arange(len(events)) * 60_000_000
    records = PartitionRecords(np.arange(len(events)), stamps, [None] * len(events), list(map(encode, events)))
    rows = RecordJudge(stream).rows(source.topic_id, source.partition, records, NO_CLOCK)
    LogWriter(log, stream).append(rows, {source: None}, {source: len(events)})


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = EventLog(tmp_path / "events")
    append(log, payments, OF_PAYMENTS, [CardPayment("a", Decimal(n), AT + timedelta(minutes=n)) for n in range(1, 4)])
    sent = [CardTransfer("a", "b", Decimal("0.25"), AT), CardTransfer("b", "b", Decimal("0.50"), AT)]
    append(log, transfers, OF_TRANSFERS, [*sent, CardTransfer("b", None, Decimal(7), AT)])
    return log


KEYS = pl.DataFrame({"card": ["a", "b", "a", "c"]})
TIMES = np.array([epoch_us(AT + timedelta(minutes=m)) for m in (30, 30, 2, 30)])
WANTED = {
    "card__n_1h": [4, 4, 3, 0],
    "card__change_1h": [-6.25, -6.75, -3.25, 0.0],
    "card__last_1h": [-3.0, -7.0, -2.0, None],
}


def test_a_training_set_has_the_rows_of_all_roles(log: EventLog) -> None:
    history = FeatureHistory([balance.spec], log)
    history.refresh()
    found = history.features(KEYS, TIMES)
    assert {name: found[name].to_list() for name in WANTED} == WANTED
    below = {topic: dict(positions) for topic, positions in history.positions().items()}
    assert below == {"card.payments": {OF_PAYMENTS: 3}, "card.transfers": {OF_TRANSFERS: 3}}
    spanned = FeatureHistory([balance.spec], log, QuerySpan(int(TIMES.min()), int(TIMES.max()), below))
    spanned.refresh()
    assert_frame_equal(spanned.features(KEYS, TIMES), found)
    line = msgspec.json.encode({"card": {OF_PAYMENTS.text: 1, OF_TRANSFERS.text: 2}}).decode()
    served = history.features(KEYS, TIMES, [line] * 4)
    assert served["card__n_1h"].to_list() == [2, 3, 2, 0]


class Position(Event):
    """An event with a field that is named as a place in a topic is."""

    card: str
    offset: int
    at: datetime


def test_a_field_may_be_named_offset(tmp_path: Path) -> None:
    positions, log = Stream("positions", Position, event_time="at"), EventLog(tmp_path / "events")
    append(log, positions, OF_PAYMENTS, [Position("a", 70, AT), Position("a", 30, AT)])
    for source in (positions, [Role(positions)], Role(positions, offset=col("offset") * 1)):
        read = view(source, features={"most": Max("offset"), "last": Last("offset")})
        history = FeatureHistory([read.spec], log)
        history.refresh()
        assert history.features(KEYS[:1], TIMES[:1]).select("card__most_1h", "card__last_1h").row(0) == (70, 30)
        offsets, span = {OF_PAYMENTS.text: 1}, (epoch_us(AT), epoch_us(AT) + 1)
        assert entity_rows(log, kernel(read.spec), {"card": "a"}, offsets, span)["offset"].to_list() == [70]


def test_an_explanation_has_the_rows_of_all_roles(log: EventLog) -> None:
    offsets = {OF_PAYMENTS.text: 2, OF_TRANSFERS.text: 2}
    span = (epoch_us(AT), epoch_us(AT + timedelta(hours=1)))
    found = entity_rows(log, kernel(balance.spec), {"card": "a"}, offsets, span)
    assert found["amount"].to_list() == [Decimal("-0.25"), Decimal(-1), Decimal(-2)]
    found = entity_rows(log, kernel(balance.spec), {"card": "b"}, offsets, span)
    assert found["amount"].to_list() == [Decimal("0.25"), Decimal("-0.50"), Decimal("0.50")]


def test_a_feature_table_has_the_entities_of_all_roles(tmp_path: Path) -> None:
    log, times = EventLog(tmp_path / "events"), [AT + timedelta(minutes=minute) for minute in range(200)]
    append(log, transfers, OF_TRANSFERS, [CardTransfer("a", "b", Decimal(2), at) for at in times])
    append(log, payments, OF_PAYMENTS, [CardPayment("c", Decimal(1), at) for at in times])
    table = FeatureTable(balance.spec, log, str(tmp_path / "tables"))
    assert table.update() == 9
    rows = pl.read_delta(table.path).sort("time", "card")
    assert rows["card"].to_list() == ["a", "b", "c"] * 3
    assert rows["card__change_1h"].to_list()[:3] == [-118.0, 118.0, -59.0]


def test_the_audit_allows_for_the_magnitudes_of_what_was_taken_back(log: EventLog) -> None:
    features = {"change": Sum(col("amount") * 1), "n": Count(), "spread": Variance("amount")}
    taken = view([payments, Role(payments, takes_back=True)], features=features)
    history = FeatureHistory([taken.spec], log)
    history.refresh()
    keys, at_us = pl.DataFrame({"card": ["a"]}), TIMES[:1]
    found = history.features(keys, at_us)
    assert found.select("card__change_1h", "card__n_1h", "card__spread_1h").row(0) == (0.0, 0, None)
    bounds = tolerances(taken.spec, history, keys, at_us, np.array([[3]]))
    assert bounds["card__change_1h"][0] == pytest.approx(1e-9 * 2 * (1 + 2 + 3))


def test_a_role_keeps_the_records_on_which_its_condition_is_true(log: EventLog) -> None:
    large = view([Role(payments, where=col("amount") > 1.5)])
    history = FeatureHistory([large.spec], log)
    history.refresh()
    assert history.features(KEYS[:1], TIMES[:1])["card__n_1h"].to_list() == [2]


def test_the_estimate_of_a_backfill_counts_the_rows_of_all_topics(log: EventLog) -> None:
    ends = {"card.payments": {OF_PAYMENTS: 3}, "card.transfers": {OF_TRANSFERS: 3}}
    found = estimate(log, balance.spec, ends)
    assert found.rows == 6
